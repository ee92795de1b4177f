//! Credentials and references; the registry itself is met in `tests/registry.rs`.

use super::*;

fn credentials(json: &str) -> Result<Credentials> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs_err::write(&path, json).unwrap();
    Credentials::read(&path)
}

#[test]
fn logins_are_read_as_docker_and_podman_write_them() {
    let read = credentials(
        r#"{"auths": {
            "registry.example.org:5000": {"auth": "bWU6cGE6c3M="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "secret"},
            "token.example.org": {"registrytoken": "t"}
        }, "credHelpers": {"helped.example.org": "pass"}, "psFormat": "x"}"#,
    )
    .unwrap();
    let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());
    assert_eq!(read.of("registry.example.org:5000"), basic("me", "pa:ss"));
    assert_eq!(read.of("docker.io"), basic("hub", "secret"));
    assert_eq!(
        read.of("token.example.org"),
        RegistryAuth::Bearer("t".to_owned())
    );
    assert_eq!(read.of("registry.example.org"), RegistryAuth::Anonymous);
    assert_eq!(read.helpers, ["helped.example.org"]);
}

#[test]
fn no_password_is_shown() {
    let read = credentials(r#"{"auths": {"a.b": {"username": "u", "password": "hidden"}}}"#);
    assert!(!format!("{:?}", read.unwrap()).contains("hidden"));
    let broken = credentials(r#"{"auths": {"a.b": {"password": ["hidden"]}}}"#).unwrap_err();
    assert!(!format!("{broken:?}{}", broken.message()).contains("hidden"));
}

#[test]
fn what_names_no_image_is_refused() {
    for wrong in [
        "",
        "Upper/Case:v1",
        "a b",
        "host/x@sha256:12",
        "host/x:ta g",
    ] {
        assert_eq!(
            reference(wrong).unwrap_err().code(),
            Code::BadRequest,
            "{wrong}"
        );
    }
    let good = reference("127.0.0.1:5000/models/churn:v1").unwrap();
    assert_eq!(good.resolve_registry(), "127.0.0.1:5000");
    assert_eq!(
        (good.repository(), good.tag()),
        ("models/churn", Some("v1"))
    );
}
