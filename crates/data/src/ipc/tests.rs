//! Tests of Arrow IPC streams.

use luthier_types::DataType;
use proptest::prelude::*;

use super::*;
use crate::{rows::tests::column, synthetic_rows};

fn table(rows: usize) -> RecordBatch {
    let columns = [column("f", DataType::Float), column("s", DataType::Str)];
    synthetic_rows(&columns.iter().collect::<Vec<_>>(), rows).unwrap()
}

#[test]
fn several_batches_become_one_and_none_keeps_the_schema() {
    let mut writer = StreamWriter::try_new(vec![], table(1).schema_ref()).unwrap();
    writer.write(&table(5).slice(0, 2)).unwrap();
    writer.write(&table(5).slice(2, 3)).unwrap();
    assert_eq!(
        from_ipc(writer.into_inner().unwrap().into()).unwrap(),
        table(5)
    );
    assert_eq!(
        from_ipc(to_ipc(&table(0)).unwrap().into()).unwrap(),
        table(0)
    );
}

#[test]
fn a_cut_stream_is_refused() {
    let bytes = to_ipc(&table(3)).unwrap();
    for end in [0, 3, bytes.len() / 2, bytes.len() - 20] {
        let result = from_ipc(Bytes::copy_from_slice(&bytes[..end]));
        assert!(
            result.is_err_and(|e| e.code() == Code::InvalidPrediction),
            "{end}"
        );
    }
}

proptest! {
    #[test]
    fn a_damaged_stream_is_read_or_refused(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = to_ipc(&table(3)).unwrap();
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(batch) = from_ipc(bytes.into()) {
            let _ = crate::batch_to_rows(&batch);
        }
    }
}

#[test]
fn a_table_is_as_large_as_its_rows_and_not_as_what_they_lie_in() {
    let columns: Vec<_> = (0..50)
        .map(|i| {
            column(
                &format!("c{i}"),
                if i % 2 == 0 {
                    DataType::Float
                } else {
                    DataType::Str
                },
            )
        })
        .collect();
    let made = synthetic_rows(&columns.iter().collect::<Vec<_>>(), 1000).unwrap();
    let stream = to_ipc(&made).unwrap();
    let came = from_ipc(stream.clone().into()).unwrap();
    assert!(table_bytes(&came) <= stream.len() && table_bytes(&came) > stream.len() / 2);
    let few = came.slice(0, 10);
    assert!(table_bytes(&few) < stream.len() / 50);
    // What is set aside for sending them follows.
    for table in [&came, &few] {
        let sent = to_ipc(table).unwrap();
        assert!(
            sent.capacity() < 2 * sent.len(),
            "{} {}",
            sent.capacity(),
            sent.len()
        );
    }
}
