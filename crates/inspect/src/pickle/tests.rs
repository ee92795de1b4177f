//! Tests of following opcodes. Real pickles are in the corpus; here are hand-made and hostile ones.

use proptest::prelude::*;

use super::*;

fn globals(pickle: &[u8]) -> (Vec<String>, End) {
    let found = read_pickles(pickle);
    let globals = found.globals.iter().map(|(m, n)| format!("{m}.{n}"));
    (globals.collect(), found.end)
}

#[test]
fn imports_of_every_protocol_are_told() {
    for pickle in [
        &b"cos\nsystem\n(S'true'\ntR."[..],
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nVtrue\no.",
        b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02R.",
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
        // The names from the memo, put there in the other order.
        b"\x80\x04\x8c\x06system\x940\x8c\x02os\x940h\x01h\x00\x93.",
        b"\x80\x04\x8c\x06systemr\x00\x01\x00\x000\x8c\x02osj\x00\x01\x00\x00\x93.",
    ] {
        let (found, end) = globals(pickle);
        assert_eq!((found, end), (vec!["os.system".to_owned()], End::Whole), "{pickle:?}");
    }
}

#[test]
fn what_follows_a_pickle_is_read_if_it_is_one() {
    let one = b"\x80\x02cos\nsystem\n.";
    let two = b"\x80\x02csys\nexit\n.";
    let found = read_pickles(&[&one[..], two].concat()[..]);
    assert_eq!(
        (found.count, found.globals.len(), found.end),
        (2, 2, End::Whole)
    );
    let found = read_pickles(&[&one[..], b"other"].concat()[..]);
    assert_eq!((found.count, found.end), (1, End::Lost));
}

#[test]
fn a_pickle_that_is_cut_short_is_told_from_other_data() {
    let whole = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.";
    for end in 1..whole.len() {
        assert_eq!(read_pickles(&whole[..end]).end, End::Cut, "{end}");
    }
    for other in [
        &b""[..],
        b"hello",
        b"\x80\xff",
        b"\x80\x04\x93",
        b")(.",
        b"h\x00\x93",
    ] {
        assert_eq!(read_pickles(other).end, End::Lost, "{other:?}");
    }
}

#[test]
fn what_would_take_much_memory_is_not_kept() {
    // Tuples of tuples, doubled each time; and a length that is not there.
    let mut pickle = b"\x80\x02)".to_vec();
    pickle.extend(b"2\x86".repeat(100_000));
    pickle.push(b'.');
    assert_eq!(read_pickles(&pickle[..]).end, End::Whole);
    assert_eq!(
        read_pickles(&b"\x80\x04\x8e\xff\xff\xff\xff\x00\x00\x00\x00"[..]).end,
        End::Cut
    );
    assert_eq!(
        read_pickles(&b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff"[..]).end,
        End::Cut
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read(content in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_pickles(&content[..]);
    }

    #[test]
    fn any_opcodes_are_read(opcodes in prop::collection::vec(
        prop::sample::select(b".(012NI\nJKMXUctabdelosu})]\x80\x81\x85\x86\x87\x88\x8c\x8f\x90\x91\x92\x93\x94\x95\x97hjqrpg0Q".to_vec()), 0..400)) {
        let _ = read_pickles(&opcodes[..]);
    }
}
