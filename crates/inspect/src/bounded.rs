//! A reader that gives out a bounded number of bytes and remembers why it stopped.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// What happened to a reader that is by now inside other readers.
#[derive(Clone, Default)]
pub(crate) struct Watch(Rc<Cell<Seen>>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    Exceeded,
    Failed,
}

impl Watch {
    /// Whether more was there than the bound.
    pub(crate) fn exceeded(&self) -> bool {
        self.0.get() == Seen::Exceeded
    }

    /// Whether the reader below failed by itself.
    pub(crate) fn failed(&self) -> bool {
        self.0.get() == Seen::Failed
    }
}

/// Reads at most `left` bytes from `inner`, then fails.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    watch: Watch,
}

impl<R: Read> Bounded<R> {
    /// A reader of at most `bytes` bytes.
    pub(crate) fn new(inner: R, bytes: u64) -> (Self, Watch) {
        let watch = Watch::default();
        (
            Self {
                inner,
                left: bytes,
                watch: watch.clone(),
            },
            watch,
        )
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.watch.0.set(Seen::Failed);
            }
        })?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.watch.0.set(Seen::Exceeded);
                return Err(io::Error::other("more bytes than allowed"));
            }
        }
        Ok(read)
    }
}
