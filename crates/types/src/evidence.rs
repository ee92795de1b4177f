//! What was observed of a failure, and what a replica was doing at the time.

use serde::{Deserialize, Serialize};

/// What a replica was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Its interpreter was coming up.
    Starting,
    /// `package.py` was being imported.
    Importing,
    /// `get_model()` was running.
    Loading,
    /// It answered the rows that were to prove it.
    Validating,
    /// It served.
    Serving,
}

impl Moment {
    /// As it ends a sentence: "the process ended while …".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Starting => "while it was starting",
            Self::Importing => "while `package.py` was being imported",
            Self::Loading => "while `get_model()` was running",
            Self::Validating => "while it answered the validation predict",
            Self::Serving => "while it was serving",
        }
    }
}

/// What was observed. All of it is public; nothing here may hold a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// What the replica was doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Moment>,
    /// Exit status of a process, if it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<bool>,
    /// Memory limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Most memory used, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Last lines of the log, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Output of a tool (resolver, build), a traceback, or where Python's threads were, as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

impl Evidence {
    /// Most lines of a log that are kept.
    pub const LOG_LINES: usize = 50;
    /// Most bytes of one of these lines.
    pub const LINE_BYTES: usize = 1000;
    /// Most bytes of an output that are kept: its end, where the cause usually stands.
    pub const OUTPUT_BYTES: usize = 16 * 1024;

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Evidence that is the end of a tool's output.
    pub fn output(text: &str) -> Self {
        Self {
            output: Some(last_bytes(text, Self::OUTPUT_BYTES).to_owned()),
            ..Self::default()
        }
    }

    /// As much of a log's lines as is kept: the last of them, and of each its beginning.
    pub fn lines(mut log: Vec<String>) -> Vec<String> {
        log.drain(..log.len().saturating_sub(Self::LOG_LINES));
        for line in &mut log {
            if line.len() > Self::LINE_BYTES {
                let mut end = Self::LINE_BYTES;
                while !line.is_char_boundary(end) {
                    end -= 1;
                }
                line.truncate(end);
                line.push('…');
            }
        }
        log
    }

    /// The evidence as lines of text for a person, without the log and the output.
    pub fn summary(&self) -> Option<String> {
        let mut parts = vec![];
        if let Some(code) = self.exit_code {
            parts.push(format!("exit status {code}"));
        }
        if let Some(signal) = self.signal {
            parts.push(format!("ended by signal {}", signal_name(signal)));
        }
        match self.out_of_memory {
            Some(true) => parts.push("out of memory".to_owned()),
            Some(false) => parts.push("not out of memory".to_owned()),
            None => {}
        }
        let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1024 * 1024));
        match (self.memory_peak, self.memory_limit) {
            (Some(peak), Some(limit)) => {
                parts.push(format!("peak {} of {} allowed", mib(peak), mib(limit)));
            }
            (Some(peak), None) => parts.push(format!("peak {}", mib(peak))),
            (None, Some(limit)) => parts.push(format!("limit {}", mib(limit))),
            (None, None) => {}
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// A signal of Linux by number and name, such as `11 (SIGSEGV)`.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

/// The last `most` bytes of a text, or a few less, from the beginning of a character.
pub(crate) fn last_bytes(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
