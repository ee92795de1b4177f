//! A few rows of a model's recent requests, in memory only, for trying out a new revision.
//!
//! Some of them do: at most one request every so often gives at most a few rows, so that a busy model
//! pays a look at a counter for most requests. Rows are copied, for a slice would keep all of its
//! table.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::{concat::concat_batches, take::take_record_batch};

/// Milliseconds after a request was remembered until another may be.
const PAUSE: u64 = 20;
/// Most rows of one request.
const EACH: usize = 4;
/// Most bytes of the rows of one request; with larger ones it is not remembered.
const BYTES: usize = 64 << 10;

/// The rows, oldest first.
pub(crate) struct Recent {
    limit: usize,
    start: Instant,
    next: AtomicU64,
    rows: Mutex<VecDeque<RecordBatch>>,
}

impl Recent {
    /// Remembers at most `limit` rows.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            start: Instant::now(),
            next: AtomicU64::new(0),
            rows: Mutex::default(),
        }
    }

    /// Perhaps remembers some rows of a request.
    pub(crate) fn note(&self, request: &RecordBatch) {
        if self.limit == 0 || request.num_rows() == 0 {
            return;
        }
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let mine = now >= next
            && self
                .next
                .compare_exchange(next, now + PAUSE, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine && let Some(rows) = copied(request, EACH.min(self.limit)) {
            let mut kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(rows);
            let mut count: usize = kept.iter().map(RecordBatch::num_rows).sum();
            while count > self.limit {
                count -= kept.pop_front().map_or(count, |old| old.num_rows());
            }
        }
    }

    /// The rows that look like the newest, in one table; `None` when there are none.
    pub(crate) fn rows(&self) -> Option<RecordBatch> {
        let kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = kept.back()?.schema();
        let alike = kept.iter().filter(|rows| rows.schema() == schema);
        concat_batches(&schema, alike).ok()
    }
}

/// Up to `most` rows from all over the table, copied, unless they are too large.
fn copied(table: &RecordBatch, most: usize) -> Option<RecordBatch> {
    let count = table.num_rows().min(most);
    let places = (0..count).map(|n| u32::try_from(n * table.num_rows() / count).unwrap_or(0));
    let rows = take_record_batch(table, &UInt32Array::from_iter_values(places)).ok()?;
    (rows.get_array_memory_size() <= BYTES).then_some(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array as _, Float64Array, StringArray};

    use super::*;

    fn table(from: usize, rows: usize) -> RecordBatch {
        let x = Float64Array::from_iter_values((from..from + rows).map(|n| n as f64));
        RecordBatch::try_from_iter([("x", Arc::new(x) as _)]).unwrap()
    }

    /// As if the pause were over.
    fn note(recent: &Recent, request: &RecordBatch) {
        recent.next.store(0, Ordering::Relaxed);
        recent.note(request);
    }

    fn values(recent: &Recent) -> Vec<f64> {
        let rows = recent.rows().unwrap();
        let x = rows.column(0).as_any().downcast_ref::<Float64Array>();
        x.unwrap().values().to_vec()
    }

    #[test]
    fn rows_are_few_and_the_newest() {
        let recent = Recent::new(6);
        assert!(recent.rows().is_none());
        note(&recent, &table(0, 8));
        assert_eq!(values(&recent), [0.0, 2.0, 4.0, 6.0]);
        note(&recent, &table(100, 1));
        note(&recent, &table(200, 2));
        assert_eq!(values(&recent), [100.0, 200.0, 201.0]);
    }

    #[test]
    fn most_requests_of_a_busy_model_are_let_go() {
        let recent = Recent::new(1000);
        for n in 0..1000 {
            recent.note(&table(n, 1));
        }
        let most = recent.start.elapsed().as_millis() as usize / PAUSE as usize + 1;
        assert!(recent.rows().unwrap().num_rows() <= most);
    }

    #[test]
    fn a_few_rows_do_not_keep_their_table_and_large_ones_are_not_kept() {
        let recent = Recent::new(10);
        note(&recent, &table(0, 1_000_000));
        assert!(recent.rows().unwrap().get_array_memory_size() < 4096);
        let recent = Recent::new(10);
        let text = StringArray::from_iter_values(["x".repeat(BYTES)]);
        let large = RecordBatch::try_from_iter([("x", Arc::new(text) as _)]).unwrap();
        note(&recent, &large);
        assert!(recent.rows().is_none());
    }

    #[test]
    fn rows_of_another_form_are_left_out() {
        let recent = Recent::new(10);
        let text = StringArray::from_iter_values(["a"]);
        note(
            &recent,
            &RecordBatch::try_from_iter([("x", Arc::new(text) as _)]).unwrap(),
        );
        note(&recent, &table(1, 1));
        assert_eq!(values(&recent), [1.0]);
    }

    #[test]
    fn nothing_is_remembered_where_that_is_switched_off() {
        let recent = Recent::new(0);
        note(&recent, &table(0, 3));
        assert!(recent.rows().is_none());
    }
}
