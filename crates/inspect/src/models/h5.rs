//! The version of Keras in an HDF5 file, found without a library for HDF5: the attribute's name is
//! looked for, and the text it has or refers to is read.

/// The attribute that Keras writes.
const KEY: &[u8] = b"keras_version\0";
/// Most bytes between the attribute's name and its value.
const WINDOW: usize = 128;
/// Most objects of one heap that are passed.
const MOST_OBJECTS: usize = 10_000;

/// The version of Keras that wrote the file `bytes`.
pub(super) fn keras_version(bytes: &[u8]) -> Option<String> {
    let mut from = 0;
    while let Some(hit) = find(bytes.get(from..)?, KEY) {
        from += hit + KEY.len();
        let after = bytes.get(from..bytes.len().min(from + WINDOW))?;
        // A text of variable length lies in a heap of its own: length, address and number of it.
        let referred = (0..after.len()).find_map(|at| {
            let size = number(after, at, 4)?;
            let heap = usize::try_from(number(after, at + 4, 8)?).ok()?;
            let index = number(after, at + 12, 4)?;
            let fits = (3..32).contains(&size) && bytes.get(heap..)?.starts_with(b"GCOL");
            fits.then(|| object(bytes, heap, index)).flatten()
        });
        let plain = || {
            let start = after.iter().position(u8::is_ascii_digit)?;
            let rest = &after[start..];
            let end = rest.iter().position(|b| !is_of_version(*b))?;
            version(&rest[..end])
        };
        if let Some(found) = referred.or_else(plain) {
            return Some(found);
        }
    }
    None
}

/// The object number `index` of the heap at `heap`, if it is a version.
fn object(bytes: &[u8], heap: usize, index: u64) -> Option<String> {
    let mut at = heap.checked_add(16)?;
    for _ in 0..MOST_OBJECTS {
        let here = number(bytes, at, 2)?;
        let size = usize::try_from(number(bytes, at + 8, 8)?).ok()?;
        let start = at.checked_add(16)?;
        if here == index {
            let text = bytes.get(start..start.checked_add(size)?)?;
            let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
            return version(&text[..end]);
        }
        if here == 0 {
            return None;
        }
        at = start.checked_add(size.checked_next_multiple_of(8)?)?;
    }
    None
}

/// The text, if it is a version.
fn version(text: &[u8]) -> Option<String> {
    let fits = text.contains(&b'.')
        && text.len() < 32
        && text.first().is_some_and(u8::is_ascii_digit)
        && text.iter().copied().all(is_of_version);
    fits.then(|| String::from_utf8_lossy(text).into_owned())
}

const fn is_of_version(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')
}

/// A number of `size` bytes, the least significant first.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)))
}

fn find(bytes: &[u8], key: &[u8]) -> Option<usize> {
    bytes.windows(key.len()).position(|w| w == key)
}
