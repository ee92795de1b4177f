//! Tables taken apart and put together again.

use arrow_array::{ArrayRef, Int64Array};
use proptest::prelude::*;

use super::*;

fn table(values: Vec<Option<i64>>) -> RecordBatch {
    let column = Arc::new(Int64Array::from(values)) as ArrayRef;
    RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
}

fn numbers(rows: usize) -> RecordBatch {
    table((0..rows as i64).map(Some).collect())
}

proptest! {
    #[test]
    fn parts_are_even_and_make_up_the_whole(rows in 0usize..12_000, most in 0usize..12) {
        let whole = numbers(rows);
        match split(&whole, most) {
            None => prop_assert!(most < 2 || rows < 2 * PART_ROWS),
            Some(parts) => {
                prop_assert!(parts.len() <= most && parts.len() >= 2);
                let sizes: Vec<usize> = parts.iter().map(RecordBatch::num_rows).collect();
                let (least, largest) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                prop_assert!(*least >= PART_ROWS && largest - least <= 1);
                prop_assert_eq!(joined(parts.iter()).unwrap(), whole);
            }
        }
    }
}

#[test]
fn what_would_look_different_in_parts_stays_whole() {
    let mut values: Vec<Option<i64>> = (0..4000).map(Some).collect();
    values[10] = None;
    // pandas makes floats of the integers in the first half only.
    assert!(split(&table(values.clone()), 2).is_none());
    values[3000] = None;
    assert!(split(&table(values), 2).is_some());
}

#[test]
fn a_row_that_came_as_arrow_is_small() {
    let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let named = |i| {
        (
            format!("a column with a name of usual length, {i}"),
            column(),
        )
    };
    let row = RecordBatch::try_from_iter((0..100).map(named)).unwrap();
    let came = luthier_data::from_ipc(luthier_data::to_ipc(&row).unwrap().into()).unwrap();
    assert!(is_small(&came));
    assert!(!is_small(&numbers(SMALL_ROWS + 1)));
}
