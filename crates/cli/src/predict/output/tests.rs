//! What is written is whole, in its form, or not there.

use arrow_array::{ArrayRef, Float64Array, Int64Array};

use super::*;

fn table(values: &[f64]) -> Bytes {
    let column = std::sync::Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    ipc(&RecordBatch::try_from_iter([("score", column)]).unwrap())
}

fn ipc(table: &RecordBatch) -> Bytes {
    luthier_data::to_ipc(table).unwrap().into()
}

#[test]
fn parts_become_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let written = |name: &str, answers: &[Bytes]| {
        let path = dir.path().join(name);
        let mut output =
            Output::open(Some(&path), Form::choose(None, Some(&path)).unwrap()).unwrap();
        for answer in answers {
            output.write(answer.clone()).unwrap();
        }
        assert!(!path.exists(), "not before it is whole");
        output.finish().unwrap();
        fs_err::read(&path).unwrap()
    };
    let csv = [b"score\n1.0\n".as_slice(), b"score\n2.0\n"].map(Bytes::from_static);
    assert_eq!(written("o.csv", &csv), b"score\n1.0\n2.0\n");
    let json = [r#"{"data":{"predictions":[{"score":1.0},{"score":2.0}]},"kind":"NORMAL"}"#; 2];
    let json = json.map(|answer| Bytes::from_static(answer.as_bytes()));
    assert_eq!(
        written("o.jsonl", &json[..1]),
        b"{\"score\":1.0}\n{\"score\":2.0}\n"
    );
    let array: Vec<serde_json::Value> = serde_json::from_slice(&written("o.json", &json)).unwrap();
    assert_eq!(array.len(), 4);
    assert_eq!(written("none.json", &[]), b"[]\n");
    for name in ["o.arrow", "o.arrows", "o.parquet"] {
        let bytes = written(name, &[table(&[1.0, 2.0]), table(&[3.0])]);
        let file = fs_err::File::open(dir.path().join(name))
            .unwrap()
            .into_file();
        let batches: Vec<RecordBatch> = match name {
            "o.arrow" => arrow_ipc::reader::FileReader::try_new(file, None)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
            "o.arrows" => arrow_ipc::reader::StreamReader::try_new(file, None)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
            _ => parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
        };
        assert!(!bytes.is_empty());
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 3, "{name}");
    }
}

#[test]
fn answers_of_different_types_are_not_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.parquet");
    let mut output = Output::open(Some(&path), Form::Parquet).unwrap();
    output.write(table(&[1.0])).unwrap();
    let column = std::sync::Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let other = ipc(&RecordBatch::try_from_iter([("score", column)]).unwrap());
    let error = output.write(other).unwrap_err();
    assert_eq!(error.code(), Code::InvalidPrediction);
    drop(output);
    assert_eq!(
        fs_err::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left"
    );
}

#[test]
fn a_name_must_say_the_form() {
    assert!(Form::choose(None, Some(Path::new("out.xlsx"))).is_err());
    assert_eq!(
        Form::choose(Some(Form::Csv), Some(Path::new("out"))).unwrap(),
        Form::Csv
    );
    assert_eq!(Form::choose(None, None).unwrap(), Form::Jsonl);
}
