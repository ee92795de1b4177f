//! Takes connections and gives each a thread. Those for which there is none are served by the
//! accept thread itself, health only, so that health is answered however many there are.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    http::Reader,
    serve::{connection, overflow},
    state::State,
    stream::Listener,
};

/// Connections beside those that call the model.
const SPARE_CONNECTIONS: usize = 64;
/// What Python code expects of a thread. Only what is touched takes memory.
const STACK: usize = 8 * 1024 * 1024;
/// How long a client may take whom the accept thread serves by itself.
const HURRY: Duration = Duration::from_millis(100);
/// Connections that wait for the accept thread to serve them; past it the oldest is dropped.
const MOST_CROWD: usize = 256;

/// What a connection is to the limit on connections.
struct Slot(Arc<AtomicUsize>);

/// Starts to listen and to answer.
pub(crate) fn start(state: &Arc<State>) -> io::Result<()> {
    let listener = Listener::bind(&state.config.listen)?;
    state.listens(listener.as_raw_fd());
    let state = Arc::clone(state);
    thread::Builder::new()
        .name("luthier-accept".to_owned())
        .spawn(move || accept(&listener, &state))?;
    Ok(())
}

fn accept(listener: &Listener, state: &Arc<State>) {
    let most = SPARE_CONNECTIONS + state.config.threads as usize;
    let open = Arc::new(AtomicUsize::new(0));
    let mut crowd: VecDeque<Reader> = VecDeque::new();
    loop {
        if !crowd.is_empty() && !attend(listener, &mut crowd, state) {
            continue;
        }
        let reader = match listener.accept().and_then(Reader::new) {
            Ok(reader) => reader,
            Err(_) if state.draining() => return,
            Err(_) => {
                // Out of descriptors, most likely: give the others time to end.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let slot = Slot::take(&open);
        if let Some(reader) = give(reader, slot, open.load(Ordering::Relaxed) <= most, state) {
            if crowd.len() == MOST_CROWD {
                crowd.pop_front();
            }
            crowd.push_back(reader);
        }
    }
}

/// Gives a connection to a thread of its own; back when there can be none.
fn give(reader: Reader, slot: Slot, allowed: bool, state: &Arc<State>) -> Option<Reader> {
    if !allowed {
        return Some(reader);
    }
    // Through a channel, so that the connection is still here when there is no thread for it.
    let (give, take) = mpsc::sync_channel::<Reader>(1);
    let mine = Arc::clone(state);
    let spawned = thread::Builder::new()
        .name("luthier-conn".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Ok(reader) = take.recv() {
                connection(reader, &mine, slot);
            }
        });
    match spawned {
        Ok(_) => give.send(reader).err().map(|e| e.0),
        Err(_) => {
            state.lacks_threads();
            Some(reader)
        }
    }
}

/// Waits for a new connection or for one of the crowd to speak, and answers those that did.
/// Returns whether there is a new one.
fn attend(listener: &Listener, crowd: &mut VecDeque<Reader>, state: &State) -> bool {
    let mut polled: Vec<PollFd<'_>> = std::iter::once(listener.as_fd())
        .chain(crowd.iter().map(Reader::as_fd))
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    if poll(&mut polled, PollTimeout::NONE).is_err() {
        return false;
    }
    // Whatever happened to a descriptor, an end or an error included.
    let mut spoke = polled
        .iter()
        .map(|p| p.any().unwrap_or(true))
        .collect::<Vec<_>>()
        .into_iter();
    let new = spoke.next().unwrap_or(false);
    for (reader, spoke) in std::mem::take(crowd).into_iter().zip(spoke) {
        if spoke {
            overflow(reader, state, HURRY);
        } else {
            crowd.push_back(reader);
        }
    }
    new
}

// === impl Slot ===

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
