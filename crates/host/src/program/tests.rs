//! Real programs: the shell.

use std::sync::{Arc, Mutex};

use super::*;

fn sh(script: &str) -> Program {
    Program::new("/bin/sh").arg("-c").arg(script)
}

#[tokio::test]
async fn both_streams_and_the_status_are_seen() {
    let lines = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&lines);
    let log = LogSink::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let ended = sh("echo out; echo err >&2; exit 3")
        .run(&log)
        .await
        .unwrap();
    assert_eq!(ended.exit_code, Some(3));
    assert!(!ended.success());
    assert!(ended.output.contains("out\n") && ended.output.contains("err\n"));
    assert_eq!(lines.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn only_the_given_environment_is_seen_and_credentials_are_masked() {
    let ended = sh("env; echo http://u:p4ss@h/x; umask")
        .env("A", "1")
        .run(&LogSink::none())
        .await
        .unwrap();
    assert!(ended.output.contains("A=1\n"));
    assert!(!ended.output.contains("HOME="));
    assert!(ended.output.contains("http://***@h/x\n") && !ended.output.contains("p4ss"));
    assert!(ended.output.ends_with("0022\n"));
}

#[tokio::test]
async fn only_the_end_of_a_long_output_is_kept() {
    let ended = sh("i=0; while [ $i -lt 40000 ]; do echo line-$i; i=$((i+1)); done")
        .run(&LogSink::none())
        .await
        .unwrap();
    assert!(ended.output.len() <= 2 * KEEP);
    assert!(ended.output.ends_with("line-39999\n"));
}

#[tokio::test]
async fn past_its_limit_the_whole_group_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("sleep 300 & echo $! > {}; wait", pid_file.display());
    let ended = sh(&script)
        .limit(Duration::from_millis(500))
        .run(&LogSink::none())
        .await
        .unwrap();
    assert!(ended.timed_out && !ended.success());
    assert!(ended.output.contains("did not end"));
    let pid: i32 = fs_err::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    wait_until_gone(pid).await;
}

#[tokio::test]
async fn cancelled_the_whole_group_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!(
        "sleep 300 & echo $! > {}; echo go; wait",
        pid_file.display()
    );
    let (tell, mut told) = mpsc::unbounded_channel();
    let log = LogSink::new(move |_| {
        let _ = tell.send(());
    });
    let running = tokio::spawn(async move { sh(&script).run(&log).await });
    told.recv().await.unwrap();
    let pid: i32 = fs_err::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    wait_until_gone(pid).await;
}

/// Where [`parent`] is to say that its program runs.
const PARENT: &str = "LUTHIER_TEST_PARENT";

#[tokio::test]
async fn a_killed_parent_takes_the_whole_group_along() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut parent = std::process::Command::new(env::current_exe().unwrap())
        .args(["program::tests::parent", "--exact", "--ignored"])
        .env(PARENT, &pid_file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = loop {
        match fs_err::read_to_string(&pid_file) {
            Ok(pid) => break pid.trim().parse().unwrap(),
            Err(_) => assert!(parent.try_wait().unwrap().is_none(), "it ended"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until_gone(pid).await;
}

#[tokio::test]
#[ignore = "a process that another test kills"]
async fn parent() {
    let pid_file = env::var(PARENT).unwrap();
    let script =
        format!("sleep 300 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait");
    sh(&script).run(&LogSink::none()).await.unwrap();
}

/// A killed orphan is a zombie until the init process collects it; both count as gone.
async fn wait_until_gone(pid: i32) {
    for _ in 0..200 {
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} still runs");
}
