//! A package index on loopback, and packages to put on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Serves the simple API until dropped.
pub(crate) struct Index {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    user: Option<(String, String)>,
    /// How many of the next requests are answered with 503.
    failures: AtomicUsize,
    requests: AtomicUsize,
    /// Files that their authors withdrew.
    yanked: Mutex<BTreeSet<String>>,
    /// Whether `/go` is there.
    go: AtomicBool,
    stopped: AtomicBool,
}

impl Index {
    /// Serves the files in `directory`; to `user` only, if there is one.
    pub(crate) fn start(directory: &Path, user: Option<(&str, &str)>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), directory, user)
    }

    /// As [`start`](Self::start), on a listener that is there.
    pub(crate) fn on(listener: TcpListener, directory: &Path, user: Option<(&str, &str)>) -> Self {
        let files = fs_err::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs_err::read(path).unwrap())
            })
            .collect();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files,
            user: user.map(|(name, password)| (name.to_owned(), password.to_owned())),
            ..Shared::default()
        });
        let index = Self {
            address,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        index
    }

    /// Its address; `user` is put into it as it is.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("http://{user}{}/simple/", self.address)
    }

    /// Answers the next `count` requests with 503.
    #[allow(dead_code, reason = "each test program uses its own part")]
    pub(crate) fn fail(&self, count: usize) {
        self.shared.failures.store(count, Ordering::SeqCst);
    }

    /// Withdraws a file, as an author does.
    #[allow(dead_code, reason = "each test program uses its own part")]
    pub(crate) fn yank(&self, file: &str) {
        assert!(self.shared.files.contains_key(file));
        self.shared.yanked.lock().unwrap().insert(file.to_owned());
    }

    /// How many requests there were.
    #[allow(dead_code, reason = "each test program uses its own part")]
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Makes `/go` be there.
    #[allow(dead_code, reason = "each test program uses its own part")]
    pub(crate) fn go(&self) {
        self.shared.go.store(true, Ordering::SeqCst);
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        let mut head = vec![];
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some(path) = head.split(' ').nth(1) else {
            return;
        };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (status, kind, body) = self.response(path, &head);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             WWW-Authenticate: Basic realm=\"x\"\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
        if !head.starts_with("HEAD") {
            let _ = stream.write_all(&body);
        }
    }

    fn response(&self, path: &str, head: &str) -> (&'static str, &'static str, Vec<u8>) {
        let failing = |n: usize| n.checked_sub(1);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.failures.fetch_update(set, get, failing).is_ok() {
            return ("503 Service Unavailable", "text/plain", vec![]);
        }
        if path == "/go" {
            let there = self.go.load(Ordering::SeqCst);
            let status = if there { "200 OK" } else { "404 Not Found" };
            return (status, "text/plain", vec![]);
        }
        if let Some((name, password)) = &self.user {
            let wanted = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            if !head.contains(&wanted) {
                return ("401 Unauthorized", "text/plain", vec![]);
            }
        }
        if let Some(file) = path.strip_prefix("/files/") {
            return match self.files.get(file) {
                Some(content) => ("200 OK", "application/octet-stream", content.clone()),
                None => ("404 Not Found", "text/plain", vec![]),
            };
        }
        let name = path.trim_start_matches("/simple/").trim_end_matches('/');
        let mine = |file: &&String| file.replace('_', "-").starts_with(&format!("{name}-"));
        let links: String = self
            .files
            .keys()
            .filter(mine)
            .map(|file| {
                let is_yanked = self.yanked.lock().unwrap().contains(file);
                let yanked = if is_yanked {
                    " data-yanked=\"broken\""
                } else {
                    ""
                };
                format!("<a href=\"/files/{file}\"{yanked}>{file}</a>\n")
            })
            .collect();
        if links.is_empty() {
            return ("404 Not Found", "text/plain", vec![]);
        }
        let page = format!("<!DOCTYPE html><html><body>{links}</body></html>");
        ("200 OK", "text/html", page.into_bytes())
    }
}

/// Puts a wheel of `name` (one module that says its version) into `directory`.
#[allow(dead_code, reason = "each test program uses its own part")]
pub(crate) fn wheel(python: &Path, directory: &Path, name: &str, version: &str) {
    let script = r#"
import sys, zipfile, pathlib
directory, name, version = sys.argv[1:]
info = f"{name}-{version}.dist-info"
files = {
    f"{name}.py": f"VERSION = {version!r}\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files[f"{info}/RECORD"] = "".join(f"{f},,\n" for f in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(pathlib.Path(directory) / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
    for file, text in files.items():
        wheel.writestr(zipfile.ZipInfo(file), text)
"#;
    run(
        python,
        script,
        &[&directory.display().to_string(), name, version],
    );
}

/// Puts a source distribution of `name` with this `setup.py` into `directory`. Its build needs
/// nothing but the interpreter: the backend is its own.
#[allow(dead_code, reason = "each test program uses its own part")]
pub(crate) fn source(python: &Path, directory: &Path, name: &str, version: &str, build: &str) {
    let script = r#"
import sys, tarfile, io, pathlib
directory, name, version, build = sys.argv[1:]
backend = f'''
import sys, zipfile, pathlib
name, version = {name!r}, {version!r}
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    exec(BUILD, {{}})
    info = f"{{name}}-{{version}}.dist-info"
    files = {{
        f"{{name}}.py": f"VERSION = {{version!r}}\\n",
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[f"{{info}}/RECORD"] = "".join(f"{{f}},,\\n" for f in [*files, f"{{info}}/RECORD"])
    file = f"{{name}}-{{version}}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / file, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return file
BUILD = {build!r}
'''
files = {
    "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
    "pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": backend,
}
with tarfile.open(pathlib.Path(directory) / f"{name}-{version}.tar.gz", "w:gz") as archive:
    for file, text in files.items():
        entry = tarfile.TarInfo(f"{name}-{version}/{file}")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
"#;
    let place = directory.display().to_string();
    run(python, script, &[&place, name, version, build]);
}

fn run(python: &Path, script: &str, args: &[&str]) {
    let ended = Command::new(python)
        .args(["-I", "-c", script])
        .args(args)
        .status()
        .unwrap();
    assert!(ended.success());
}
