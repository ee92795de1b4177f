//! Models as functions, a driver for the machine, and Shapley values from their definition.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, cast::AsArray, types::Float64Type};
use arrow_schema::{DataType, Field, Schema};
use luthier_explain::{Explanation, Method, Problem, explain};
use luthier_types::Error;

pub(crate) const FIDDLER: Method = Method::FiddlerShap {
    num_permutations: 300,
    ci_level: 0.95,
};

/// A table of floats with columns `f0`, `f1`, ...
pub(crate) fn table(rows: &[Vec<f64>], columns: usize) -> RecordBatch {
    let column = |j: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row[j]).collect::<Float64Array>())
    };
    batch((0..columns).map(|j| (format!("f{j}"), column(j))))
}

/// A batch of named, nullable columns.
pub(crate) fn batch(columns: impl IntoIterator<Item = (String, ArrayRef)>) -> RecordBatch {
    let (fields, columns): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, column)| (Field::new(name, column.data_type().clone(), true), column))
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// An answer with outputs `y0`, `y1`, ..., given per row.
pub(crate) fn answer(rows: &[Vec<f64>]) -> RecordBatch {
    let outputs = rows.first().map_or(0, Vec::len);
    let column = |o: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row[o]).collect::<Float64Array>())
    };
    let fields: Vec<_> = (0..outputs)
        .map(|o| Field::new(format!("y{o}"), DataType::Float64, false))
        .collect();
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        (0..outputs).map(column).collect(),
    )
    .unwrap()
}

/// The values of a batch of floats, per row.
pub(crate) fn floats(batch: &RecordBatch) -> Vec<Vec<f64>> {
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| column.as_primitive::<Float64Type>())
        .collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|column| column.value(i)).collect())
        .collect()
}

/// A problem over floats with outputs `y0`, `y1`, ...
pub(crate) fn problem(
    x: &[f64],
    references: &[Vec<f64>],
    outputs: usize,
    method: Method,
) -> Problem {
    Problem {
        row: table(&[x.to_vec()], x.len()),
        reference: table(references, x.len()),
        outputs: (0..outputs).map(|o| format!("y{o}")).collect(),
        method,
        seed: 7,
    }
}

/// Explains, with a model of whole batches.
pub(crate) fn drive(
    problem: Problem,
    model: impl FnMut(&RecordBatch) -> RecordBatch,
) -> Result<Explanation, Error> {
    drive_by(64, problem, model)
}

/// Explains in batches of at most `most` rows.
pub(crate) fn drive_by(
    most: usize,
    problem: Problem,
    mut model: impl FnMut(&RecordBatch) -> RecordBatch,
) -> Result<Explanation, Error> {
    let mut machine = explain(problem)?;
    while let Some(rows) = machine.next_batch(most)? {
        machine.tell(&model(&rows))?;
    }
    machine.finish()
}

/// Explains, with a model of rows of floats.
pub(crate) fn run(problem: Problem, model: impl Fn(&[f64]) -> Vec<f64>) -> Explanation {
    run_by(64, problem, model)
}

/// Explains in batches of at most `most` rows, with a model of rows of floats.
pub(crate) fn run_by(
    most: usize,
    problem: Problem,
    model: impl Fn(&[f64]) -> Vec<f64>,
) -> Explanation {
    drive_by(most, problem, |rows| {
        answer(
            &floats(rows)
                .iter()
                .map(|row| model(row))
                .collect::<Vec<_>>(),
        )
    })
    .unwrap()
}

/// The game v(S) = mean over the references r of f(x on S, r elsewhere), for every S as a mask.
pub(crate) fn game(x: &[f64], references: &[Vec<f64>], model: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mixed = |mask: usize, r: &Vec<f64>| {
        let row: Vec<f64> = (0..x.len())
            .map(|j| if mask >> j & 1 == 1 { x[j] } else { r[j] })
            .collect();
        model(&row)
    };
    (0..1 << x.len())
        .map(|mask| {
            references.iter().map(|r| mixed(mask, r)).sum::<f64>() / references.len() as f64
        })
        .collect()
}

/// Shapley values of a game of n players, as the mean of what each adds over all n! orders.
pub(crate) fn by_orders(values: &[f64]) -> Vec<f64> {
    fn visit(order: &mut Vec<usize>, at: usize, each: &mut impl FnMut(&[usize])) {
        if at == order.len() {
            return each(order);
        }
        for i in at..order.len() {
            order.swap(at, i);
            visit(order, at + 1, each);
            order.swap(at, i);
        }
    }
    let players = values.len().ilog2() as usize;
    let (mut sums, mut orders) = (vec![0.0; players], 0.0);
    visit(&mut (0..players).collect(), 0, &mut |order| {
        orders += 1.0;
        let mut mask = 0;
        for &player in order {
            let before = values[mask];
            mask |= 1 << player;
            sums[player] += values[mask] - before;
        }
    });
    sums.into_iter().map(|sum| sum / orders).collect()
}

/// Shapley values of a game of n players, as weighted sums over all coalitions; for games with too
/// many orders.
pub(crate) fn by_subsets(values: &[f64]) -> Vec<f64> {
    let players = values.len().ilog2() as usize;
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    let of = |player: usize| {
        (0..values.len())
            .filter(|mask| mask >> player & 1 == 0)
            .map(|mask| {
                let size = mask.count_ones() as usize;
                factorial(size) * factorial(players - size - 1) / factorial(players)
                    * (values[mask | 1 << player] - values[mask])
            })
            .sum()
    };
    (0..players).map(of).collect()
}

#[track_caller]
pub(crate) fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(1.0_f64, |scale, value| scale.max(value.abs()));
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f - e).abs() <= tolerance * scale,
            "{found:?} is not close to {expected:?}"
        );
    }
}

/// Attributions add up to the difference of the predictions.
#[track_caller]
pub(crate) fn efficient(explanation: &Explanation) {
    for output in &explanation.outputs {
        let sum: f64 = output.attributions.iter().sum();
        let (model, baseline) = (output.model_prediction, output.baseline_prediction);
        let scale = model.abs().max(baseline.abs()).max(1.0);
        let off = (sum - (model - baseline)).abs();
        assert!(off <= 1e-12 * scale, "{output:?} is off by {off:e}");
    }
}

/// A smooth and a kinked nonlinear function of all features, decided by `salt`.
pub(crate) fn nonlinear(salt: f64) -> impl Fn(&[f64]) -> Vec<f64> + Clone {
    move |row: &[f64]| {
        let at = |j: usize| row[j % row.len()];
        let smooth: f64 = (0..row.len())
            .map(|j| (salt * (j + 1) as f64 + at(j)).sin() + at(j) * at(j + 1) * salt.cos())
            .sum();
        let kinked: f64 = (0..row.len()).map(|j| at(j).max(at(j + 2) * salt)).sum();
        vec![smooth * (1.0 + at(0).tanh() * at(row.len() - 1)), kinked]
    }
}
