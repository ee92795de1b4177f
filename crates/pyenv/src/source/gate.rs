//! The only way from a build container to the network: an HTTP proxy on a Unix socket that lets
//! through to a list of hosts and to no other.
//!
//! The container has a network of its own that reaches nothing. The socket is mounted into it, and a
//! forwarder there listens on its loopback for programs that know proxies by address only.

use std::{
    collections::BTreeSet, io, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc,
    time::Duration,
};

use luthier_ports::LogSink;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// The name of the socket in its directory.
pub(super) const SOCKET: &str = "gate.sock";
/// Largest head of a request.
const HEAD_BYTES: usize = 32 * 1024;
/// Most connections at once.
const CONNECTIONS: usize = 128;
const PATIENCE: Duration = Duration::from_secs(30);

/// Hosts that files of an index lie on, beside the index's own.
const FILE_HOSTS: &[(&str, &str)] = &[
    ("pypi.org", "files.pythonhosted.org"),
    ("test.pypi.org", "test-files.pythonhosted.org"),
    ("download.pytorch.org", "download-r2.pytorch.org"),
];

/// An open gate; closed when dropped.
pub(super) struct Gate {
    directory: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Gate {
    /// Opens a gate to `hosts` (`name:port`). What is refused is told to `log`.
    pub(super) fn open(hosts: BTreeSet<String>, log: LogSink) -> io::Result<Self> {
        // Sockets have short names only, so it does not lie in the cache. Others of this machine
        // are kept out by the outer directory.
        let directory = tempfile::Builder::new().prefix("luthier-gate-").tempdir()?;
        let inner = directory.path().join("gate");
        fs_err::create_dir(&inner)?;
        fs_err::set_permissions(&inner, std::fs::Permissions::from_mode(0o755))?;
        let socket = inner.join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        fs_err::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
        let task = tokio::spawn(serve(listener, Arc::new(hosts), log));
        Ok(Self { directory, task })
    }

    /// The directory with its socket.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().join("gate")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The hosts that fetching from `addresses` needs, and `more`, as `name:port`.
pub(super) fn hosts<'a>(
    addresses: impl IntoIterator<Item = &'a str>,
    more: &[String],
) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for address in addresses {
        let Some((scheme, rest)) = address.split_once("://") else {
            continue;
        };
        let port = if scheme == "http" { 80 } else { 443 };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let host = with_port(authority, port);
        for (index, files) in FILE_HOSTS {
            if host == format!("{index}:{port}") {
                hosts.insert(format!("{files}:{port}"));
            }
        }
        hosts.insert(host);
    }
    for host in more {
        hosts.insert(with_port(host, 443));
    }
    hosts
}

/// `name:port` in lower case, with `port` when none is given.
fn with_port(authority: &str, port: u16) -> String {
    let authority = authority.trim().to_ascii_lowercase();
    let given = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if given {
        authority
    } else {
        format!("{authority}:{port}")
    }
}

async fn serve(listener: UnixListener, hosts: Arc<BTreeSet<String>>, log: LogSink) {
    // They end with this task.
    let mut open = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        while open.try_join_next().is_some() {}
        if open.len() >= CONNECTIONS {
            open.join_next().await;
        }
        let (hosts, log) = (Arc::clone(&hosts), log.clone());
        open.spawn(async move {
            if let Err(error) = answer(stream, &hosts, &log).await {
                tracing::debug!(%error, "a connection of a build ended");
            }
        });
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    host: String,
    /// What is sent on to the host: nothing for `CONNECT`, the head as the host wants it otherwise.
    head: Option<String>,
}

async fn answer(mut stream: UnixStream, hosts: &BTreeSet<String>, log: &LogSink) -> io::Result<()> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_BYTES {
            return refuse(&mut stream, "431 Request Header Fields Too Large", "").await;
        }
        if timeout(PATIENCE, stream.read_buf(&mut bytes)).await?? == 0 {
            return Ok(());
        }
    };
    let request = std::str::from_utf8(&bytes[..end]).ok().and_then(read);
    let Some(request) = request else {
        return refuse(&mut stream, "400 Bad Request", "").await;
    };
    if !hosts.contains(&request.host) {
        let why = format!(
            "a build may not reach {}; LUTHIER_BUILD_HOSTS lists what it may reach beside the \
             indexes",
            request.host.escape_debug()
        );
        log.line(&why);
        return refuse(&mut stream, "403 Forbidden", &why).await;
    }
    let connected = timeout(PATIENCE, connect(&request)).await;
    let mut host = match connected {
        Ok(Ok(host)) => host,
        Ok(Err(error)) => {
            return refuse(&mut stream, "502 Bad Gateway", &error.to_string()).await;
        }
        Err(_) => return refuse(&mut stream, "504 Gateway Timeout", "").await,
    };
    match &request.head {
        Some(head) => host.write_all(head.as_bytes()).await?,
        None => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
        }
    }
    host.write_all(&bytes[end..]).await?;
    copy_bidirectional(&mut stream, &mut host).await?;
    Ok(())
}

/// Connects to the host, by the server's own proxy if it has one for it.
async fn connect(request: &Request) -> io::Result<TcpStream> {
    let settings = luthier_host::uv_settings();
    let setting = |name: &str| {
        let upper = name.to_ascii_uppercase();
        settings.get(name).or_else(|| settings.get(&upper)).cloned()
    };
    let spared = setting("no_proxy").unwrap_or_default();
    let proxy = setting("https_proxy")
        .or_else(|| setting("all_proxy"))
        .filter(|_| request.head.is_none() && !is_spared(&request.host, &spared));
    let Some(proxy) = proxy.as_deref().and_then(|p| p.strip_prefix("http://")) else {
        return TcpStream::connect(&request.host).await;
    };
    let authority = proxy.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(io::Error::other(
            "a proxy that asks for a password is not supported for builds from source",
        ));
    }
    let mut stream = TcpStream::connect(with_port(authority, 80)).await?;
    let ask = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", request.host);
    stream.write_all(ask.as_bytes()).await?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200") {
        Ok(stream)
    } else {
        Err(io::Error::other("the server's proxy refused"))
    }
}

/// Whether `no_proxy` names the host.
fn is_spared(host: &str, no_proxy: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    no_proxy.split(',').map(str::trim).any(|spared| {
        let spared = spared.trim_start_matches('.');
        spared == "*"
            || (!spared.is_empty() && (name == spared || name.ends_with(&format!(".{spared}"))))
    })
}

async fn refuse(stream: &mut UnixStream, status: &str, why: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}",
        why.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads the head of a request to a proxy.
fn read(head: &str) -> Option<Request> {
    let (first, headers) = head.split_once("\r\n")?;
    let mut words = first.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    if method == "CONNECT" {
        return Some(Request {
            host: with_port(target, 443),
            head: None,
        });
    }
    let rest = target.strip_prefix("http://")?;
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    if authority.contains('@') {
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    // One request for each connection, so that a second one cannot ask another host.
    let mut sent = format!("{method} {slash}{path} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers.split("\r\n").filter(|h| !h.is_empty()) {
        let name = header.split(':').next().unwrap_or_default();
        let hop = [
            "connection",
            "proxy-connection",
            "proxy-authorization",
            "keep-alive",
        ];
        if !hop.contains(&name.to_ascii_lowercase().as_str()) {
            sent.push_str(header);
            sent.push_str("\r\n");
        }
    }
    sent.push_str("\r\n");
    Some(Request {
        host: with_port(authority, 80),
        head: Some(sent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_the_addresses_and_where_their_files_lie() {
        let more = ["Mirror.example".to_owned(), "other.example:8443".to_owned()];
        let found = hosts(
            ["https://pypi.org/simple", "http://u@127.0.0.1:8080/simple/"],
            &more,
        );
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(
            found,
            [
                "127.0.0.1:8080",
                "files.pythonhosted.org:443",
                "mirror.example:443",
                "other.example:8443",
                "pypi.org:443",
            ]
        );
    }

    #[test]
    fn requests_are_read_and_sent_on_without_the_proxys_headers() {
        assert_eq!(
            read("CONNECT Host.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(Request {
                host: "host.example:443".to_owned(),
                head: None
            })
        );
        assert_eq!(
            read(
                "GET http://h.example/a?b HTTP/1.1\r\nHost: h.example\r\nProxy-Connection: keep-alive\r\n\r\n"
            ),
            Some(Request {
                host: "h.example:80".to_owned(),
                head: Some(
                    "GET /a?b HTTP/1.1\r\nConnection: close\r\nHost: h.example\r\n\r\n".to_owned()
                )
            })
        );
        for wrong in [
            "",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://a@b/ HTTP/1.1\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\n\r\n",
            "CONNECT a:1 b HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_that_need_no_proxy_are_known() {
        assert!(is_spared("a.example.org:443", "localhost, .example.org"));
        assert!(is_spared("example.org:443", ".example.org"));
        assert!(!is_spared("badexample.org:443", ".example.org"));
        assert!(is_spared("x:1", "*") && !is_spared("x:1", ""));
    }

    #[tokio::test]
    async fn only_listed_hosts_are_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"hello").await;
            }
        });
        let allowed = format!("127.0.0.1:{port}");
        let gate = Gate::open([allowed.clone()].into(), LogSink::none()).unwrap();
        let socket = gate.directory().join(SOCKET);
        assert!(socket.as_os_str().len() < 108);
        let ask = async |host: &str| {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let head = format!("CONNECT {host} HTTP/1.1\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask(&allowed).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
            "{answer}"
        );
        for host in ["127.0.0.1:1", "localhost:22", &format!("localhost:{port}")] {
            let answer = ask(host).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
            assert!(answer.contains("LUTHIER_BUILD_HOSTS"), "{answer}");
        }
        drop(gate);
        assert!(!socket.exists());
    }
}
