//! Tests of finding versions. The pickled states are what Python's pickle module writes for
//! `{"_sklearn_version": "1.0.2"}` in protocols 0, 2 and 4.

use proptest::prelude::*;

use super::*;

const PROTOCOL_0: &[u8] = b"(dp0\nV_sklearn_version\np1\nV1.0.2\np2\ns.";
const PROTOCOL_2: &[u8] =
    b"\x80\x02}q\x00X\x10\x00\x00\x00_sklearn_versionq\x01X\x05\x00\x00\x001.0.2q\x02s.";
const PROTOCOL_4: &[u8] =
    b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x10_sklearn_version\x94\x8c\x051.0.2\x94s.";

fn versions(content: &[u8]) -> Vec<String> {
    sklearn_versions(content).unwrap().into_iter().collect()
}

#[test]
fn every_protocol_is_read() {
    for pickle in [PROTOCOL_0, PROTOCOL_2, PROTOCOL_4] {
        assert_eq!(versions(pickle), ["1.0.2"]);
    }
    let mut two = PROTOCOL_2.to_vec();
    two.extend_from_slice(
        &String::from_utf8_lossy(PROTOCOL_0)
            .replace("1.0.2", "0.24.1")
            .into_bytes(),
    );
    assert_eq!(versions(&two), ["0.24.1", "1.0.2"]);
}

#[test]
fn what_is_no_version_is_left() {
    for pickle in [
        &b""[..],
        b"_sklearn_version",
        b"_sklearn_version\x94",
        b"_sklearn_version\x8c\xff1.0",
        b"_sklearn_versionX\xff\xff\xff\xff1.0",
        b"_sklearn_version\x94\x8c\x05hello",
        b"_sklearn_version\x94\x8c\x051.0 2",
        b"__sklearn_versio",
    ] {
        assert!(versions(pickle).is_empty(), "{pickle:?}");
    }
}

proptest! {
    #[test]
    fn a_version_is_found_wherever_it_is(before in 0usize..600_000, after in 0usize..300, pieces in 1usize..5) {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let n = buffer.len().min(self.0.len()).min(self.1);
                buffer[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let content = [vec![b'_'; before], PROTOCOL_4.to_vec(), vec![0; after]].concat();
        let found = sklearn_versions(Pieces(&content, pieces * 100_003)).unwrap();
        prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), ["1.0.2"]);
    }

    #[test]
    fn any_bytes_are_read(content in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = versions(&[KEY, &content].concat());
        let _ = versions(&content);
    }
}
