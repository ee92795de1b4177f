//! Makes a program find its shared libraries relative to itself.
//!
//! A CPython built with `--enable-shared` names the directory of its `libpython` by the absolute
//! path of its installation (`DT_RUNPATH`). In a container it lies elsewhere, so the path is
//! written over with one that starts at `$ORIGIN`. Only 64-bit little-endian ELF is understood.

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What [`set_search_path`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// It is not an ELF file of the kind understood, or holds no search path.
    Nothing,
    /// The search path was written over.
    Done,
    /// The search path is shorter than the new one.
    TooShort,
}

/// Writes `path` over the library search path in the ELF file `bytes`, when `stale` says that the
/// one there leads nowhere in a container.
pub(crate) fn set_search_path(bytes: &mut [u8], path: &str, stale: impl Fn(&str) -> bool) -> Patch {
    let Some((start, length)) = search_path(bytes) else {
        return Patch::Nothing;
    };
    let old = &mut bytes[start..start + length];
    if !std::str::from_utf8(old).is_ok_and(stale) {
        return Patch::Nothing;
    }
    if path.len() > length {
        return Patch::TooShort;
    }
    old.fill(0);
    old[..path.len()].copy_from_slice(path.as_bytes());
    Patch::Done
}

/// Offset and length of the search path.
fn search_path(bytes: &[u8]) -> Option<(usize, usize)> {
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let headers = usize::try_from(u64_at(bytes, 0x20)?).ok()?;
    let size = usize::from(u16_at(bytes, 0x36)?);
    let count = usize::from(u16_at(bytes, 0x38)?);
    let mut loads = vec![];
    let mut dynamic = None;
    for i in 0..count {
        let at = headers.checked_add(i.checked_mul(size)?)?;
        let offset = u64_at(bytes, at.checked_add(8)?)?;
        let address = u64_at(bytes, at.checked_add(16)?)?;
        let length = u64_at(bytes, at.checked_add(32)?)?;
        match u32_at(bytes, at)? {
            PT_LOAD => loads.push((address, offset, length)),
            PT_DYNAMIC => dynamic = Some((offset, length)),
            _ => {}
        }
    }
    let (offset, length) = dynamic?;
    let (mut table, mut name) = (None, None);
    for i in 0..length / 16 {
        let at = usize::try_from(offset.checked_add(i * 16)?).ok()?;
        let value = u64_at(bytes, at.checked_add(8)?)?;
        match u64_at(bytes, at)? {
            DT_NULL => break,
            DT_STRTAB => table = Some(value),
            DT_RPATH | DT_RUNPATH => name = Some(value),
            _ => {}
        }
    }
    let (table, name) = (table?, name?);
    let strings = loads.iter().find_map(|(address, offset, length)| {
        let inside = table.checked_sub(*address)?;
        (inside < *length).then(|| offset.checked_add(inside))?
    })?;
    let start = usize::try_from(strings.checked_add(name)?).ok()?;
    let length = bytes.get(start..)?.iter().position(|b| *b == 0)?;
    Some((start, length))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One PT_LOAD over the whole file, one PT_DYNAMIC with a string table and a run path.
    fn elf(path: &str) -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x200];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(0x20, 0x40);
        put(0x36, 56 | (2 << 16));
        put(0x40, u64::from(PT_LOAD));
        put(0x40 + 8, 0);
        put(0x40 + 16, 0x1000);
        put(0x40 + 32, 0x200);
        put(0x78, u64::from(PT_DYNAMIC));
        put(0x78 + 8, 0x100);
        put(0x78 + 32, 48);
        put(0x100, DT_STRTAB);
        put(0x108, 0x1150);
        put(0x110, DT_RUNPATH);
        put(0x118, 5);
        bytes[0x155..0x155 + path.len()].copy_from_slice(path.as_bytes());
        bytes
    }

    #[test]
    fn a_stale_path_is_written_over_in_place() {
        let mut bytes = elf("/home/x/python/lib");
        let size = bytes.len();
        assert_eq!(
            set_search_path(&mut bytes, "$ORIGIN/../lib", |old| old
                == "/home/x/python/lib"),
            Patch::Done
        );
        assert_eq!(bytes.len(), size);
        let (at, length) = search_path(&bytes).unwrap();
        assert_eq!(&bytes[at..at + length], b"$ORIGIN/../lib");
    }

    #[test]
    fn a_good_path_stays_and_a_short_one_is_reported() {
        let mut bytes = elf("/usr/lib/good/path");
        let before = bytes.clone();
        assert_eq!(set_search_path(&mut bytes, "x", |_| false), Patch::Nothing);
        assert_eq!(bytes, before);
        let mut bytes = elf("/p/lib");
        assert_eq!(
            set_search_path(&mut bytes, "$ORIGIN/../lib", |_| true),
            Patch::TooShort
        );
    }

    proptest! {
        #[test]
        fn broken_files_are_left_alone(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 6_usize..0x200) {
            let _ = set_search_path(&mut bytes, "x", |_| true);
            let mut cut_short = elf("/home/x/python/lib");
            cut_short.truncate(cut);
            let _ = set_search_path(&mut cut_short, "x", |_| true);
            let mut header = b"\x7fELF\x02\x01".to_vec();
            header.extend(&bytes);
            let _ = set_search_path(&mut header, "x", |_| true);
        }
    }
}
