//! Every form gives the same rows, in parts of bounded size.

use std::io::Write as _;

use luthier_data::{from_ipc, write_table};

use super::*;

/// The parts of an input, read on a thread of its own as the command does.
fn parts(content: &[u8], name: &str) -> Result<Vec<Part>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs_err::File::create(&path)
        .unwrap()
        .write_all(content)
        .unwrap();
    let source = Source::open(&path, None).unwrap();
    let (send, mut parts) = tokio::sync::mpsc::channel(1);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || source.read(&send));
        let mut all = vec![];
        while let Some(part) = parts.blocking_recv() {
            all.push(part);
        }
        reading.join().unwrap().map(|()| all)
    })
}

fn bodies(content: &[u8], name: &str) -> Vec<String> {
    let parts = parts(content, name).unwrap();
    parts
        .into_iter()
        .map(|part| String::from_utf8(part.body).unwrap())
        .collect()
}

fn table(rows: usize) -> RecordBatch {
    let a = arrow_array::Int64Array::from_iter_values(0..rows as i64);
    RecordBatch::try_from_iter([("a", std::sync::Arc::new(a) as arrow_array::ArrayRef)]).unwrap()
}

fn written(rows: usize, format: Format) -> Vec<u8> {
    let mut bytes = vec![];
    write_table(&table(rows), format, &mut bytes).unwrap();
    bytes
}

#[test]
fn text_is_passed_on_as_it_is() {
    assert_eq!(bodies(b"a,b\n1,\n2,x\n", "in.csv"), ["a,b\n1,\n2,x\n"]);
    let array = br#" [{"a": 1e-7, "b": null}, {"a": "2"}]"#;
    let body = r#"{"data":[{"a": 1e-7, "b": null},{"a": "2"}]}"#;
    assert_eq!(bodies(array, "in.json"), [body]);
    assert_eq!(
        bodies(b"{\"a\": 1e-7, \"b\": null}\n{\"a\": \"2\"}\n", "in.jsonl"),
        [body]
    );
    for nothing in [("a\n", "in.csv"), ("[]", "in.json"), ("", "in.jsonl")] {
        assert!(bodies(nothing.0.as_bytes(), nothing.1).is_empty());
    }
}

#[test]
fn the_form_is_that_of_the_name_or_of_the_first_bytes() {
    for (format, name) in [
        (Format::Csv, "in.csv"),
        (Format::Json, "in.json"),
        (Format::ArrowFile, "in.feather"),
        (Format::ArrowStream, "in.arrows"),
        (Format::Parquet, "in.parquet"),
    ] {
        for name in [name, "in", "in.data"] {
            let parts = parts(&written(3, format), name).unwrap();
            assert_eq!(parts.iter().map(|p| p.rows).collect::<Vec<_>>(), [3]);
        }
    }
    let misnamed = parts(&written(3, Format::Parquet), "in.json");
    assert_eq!(misnamed.err().unwrap().code(), Code::BadRequest);
}

#[test]
fn large_inputs_come_in_parts_that_know_their_place() {
    for format in Format::ALL {
        let parts = parts(&written(25_000, format), "in").unwrap();
        let places: Vec<_> = parts.iter().map(|p| (p.first, p.rows)).collect();
        assert_eq!(
            places,
            [(0, 10_000), (10_000, 10_000), (20_000, 5000)],
            "{format:?}"
        );
        if parts[0].format == Format::ArrowStream {
            let last = from_ipc(parts[2].body.clone().into()).unwrap();
            assert_eq!(last, table(25_000).slice(20_000, 5000));
        }
    }
    // Long rows fill a part before they are many.
    let long = format!("a\n{}", format!("{}\n", "x".repeat(1 << 20)).repeat(20));
    let parts = parts(long.as_bytes(), "in.csv").unwrap();
    assert_eq!(parts.iter().map(|p| p.rows).collect::<Vec<_>>(), [8, 8, 4]);
}

#[test]
fn broken_inputs_are_refused() {
    let cut = written(30, Format::ArrowStream);
    for (content, name) in [
        (b"a,b\n1\n".as_slice(), "in.csv"),
        (b"[{\"a\": 1}, {\"a\"", "in.json"),
        (b"[{\"a\": 1}] 2", "in.json"),
        (b"{\"a\": 1}\nnothing\n", "in.jsonl"),
        (&cut[..cut.len() / 2], "in.arrow"),
        (b"PAR1", "in.parquet"),
    ] {
        let refused = parts(content, name).err();
        assert_eq!(refused.map(|e| e.code()), Some(Code::BadRequest), "{name}");
    }
}

#[test]
fn a_row_is_exactly_one() {
    assert!(read_row("{\"a\": 1}").is_ok());
    assert!(read_row("[{\"a\": 1}]").is_err());
    assert!(read_row("{\"a\": 1} {\"a\": 2}").is_err());
}
