//! A registry on loopback and a small revision to push to it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use luthier_images::oci::Revision;
use tempfile::TempDir;

pub(crate) use world::World;

mod world;

/// The user `me` with the password `pa:ss`.
pub(crate) const HTPASSWD: &str =
    "me:$2b$04$KWiihFhWhME2A3Uz3Nx1h.QSXralLSDr1xLWbzxJmXsF7pSDms1Ii\n";

/// A registry; it and all it holds go away with it.
pub(crate) struct Registry {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl Registry {
    /// Starts one, open or with these users.
    pub(crate) async fn start(users: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            dir.path().join("store").display()
        );
        if let Some(users) = users {
            let file = dir.path().join("htpasswd");
            fs::write(&file, users).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            ));
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry = Self { dir, port, process };
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
        {
            let ended = registry.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}", registry.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Its name and port.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The name of an image in it.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    fn log(&self) -> Vec<String> {
        let file = fs::File::open(self.dir.path().join("log")).unwrap();
        BufReader::new(file).lines().map(Result::unwrap).collect()
    }

    /// Blobs that were uploaded so far, by its own log.
    pub(crate) fn uploads(&self) -> usize {
        let log = self.log();
        let is_upload =
            |line: &&String| line.contains("\"PUT /v2/") && line.contains("/blobs/uploads/");
        log.iter().filter(is_upload).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let ran = Command::new(program).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program}: {told}");
    ran.stdout
}
