//! A socket that is listened on for a container: the container has the listener and nothing else.

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    time::Duration,
};

use luthier_ports::ContainerRuntime as _;

use crate::world::{World, spec};

#[tokio::test]
async fn a_listener_is_handed_over_and_ends_with_the_container() {
    let world = World::new();
    let dir = world.dir.path().join("private");
    fs_err::create_dir(&dir).unwrap();
    fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = dir.join("s");
    // What a killed predecessor left in its place.
    fs_err::write(&socket, "").unwrap();
    let mut spec = spec(
        "listens",
        "readlink /proc/self/fd/3 | cut -c1-7
         ls /proc/self/fd | wc -l
         cat /proc/self/mountinfo
         echo ready; exec sleep 1000",
    );
    spec.socket = Some(socket.clone());
    let id = world.start(&spec).await;
    world.line(&id, "ready").await;
    UnixStream::connect(&socket).unwrap();
    let lines = world.runtime.logs(&id, 1000).await.unwrap();
    assert_eq!(lines[0], "socket:");
    assert_eq!(lines[1], "5", "streams, listener, and the directory listed");
    let place = dir.to_string_lossy().into_owned();
    assert!(lines.iter().all(|l| !l.contains(&place)), "{lines:#?}");

    world.runtime.stop(&id, Duration::ZERO).await.unwrap();
    let refused = UnixStream::connect(&socket).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_said() {
    let world = World::new();
    let mut spec = spec("deaf", "true");
    spec.socket = Some(world.dir.path().join("absent/s"));
    let error = world.runtime.start(&spec).await.unwrap_err();
    assert!(error.message().contains("cannot listen at"), "{error:?}");
    world.finish().await;
}
