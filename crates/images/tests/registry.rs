//! Pushing to a real registry, Debian's `docker-registry`, on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Registry, World};
use luthier_images::oci::{Access, Credentials, Pushed, push};
use luthier_types::{Code, Error};

fn plain() -> Access {
    Access {
        plain_http: true,
        ..Access::default()
    }
}

async fn pushed(world: &World, to: &str, access: &Access) -> Result<Pushed, Error> {
    push(&world.layout, &world.revision, to, access, &|_| {}).await
}

#[tokio::test]
async fn a_second_version_sends_its_own_layer_only() {
    let registry = Registry::start(None).await;
    let mut world = World::new();
    let to = registry.name("models/churn:v1");
    let first = pushed(&world, &to, &plain()).await.unwrap();
    // Six layers and the configuration.
    assert_eq!((first.sent.0, first.there), (7, 0));
    assert_eq!(registry.uploads(), 7);

    let again = pushed(&world, &to, &plain()).await.unwrap();
    assert_eq!((again.sent.0, again.there), (0, 7));
    assert_eq!(again.reference, first.reference);
    assert_eq!(registry.uploads(), 7, "nothing is sent twice");

    world.package("other", "def get_model(): return 2\n");
    let to = registry.name("models/churn:v2");
    let second = pushed(&world, &to, &plain()).await.unwrap();
    assert_eq!((second.sent.0, second.there), (2, 5));
    assert_eq!(registry.uploads(), 9, "the package and the configuration");
    assert_ne!(second.reference, first.reference);

    // Both are whole: skopeo fetches every blob and checks its digest.
    for reference in [&first.reference, &second.reference, &to] {
        let copy = world.dir.path().join("copy");
        common::run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "--src-tls-verify=false",
                &format!("docker://{reference}"),
                &format!("dir:{}", copy.display()),
            ],
        );
        fs_err::remove_dir_all(copy).unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_wants_a_login_gets_it_from_the_file_of_logins() {
    let registry = Registry::start(Some(common::HTPASSWD)).await;
    let world = World::new();
    let to = registry.name("models/churn:v1");

    let refused = pushed(&world, &to, &plain()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthorized);
    assert!(refused.next_step().unwrap().contains("docker login"));

    let login = |auth: &str| {
        let file = world.dir.path().join("auth.json");
        let text = format!(
            r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#,
            registry.host()
        );
        fs_err::write(&file, text).unwrap();
        Access {
            plain_http: true,
            credentials: Credentials::read(&file).unwrap(),
        }
    };
    let wrong = pushed(&world, &to, &login("bWU6d3Jvbmc="))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthorized);
    assert!(wrong.next_step().unwrap().contains("may be wrong"));
    assert!(!format!("{wrong:?}").contains("bWU6d3Jvbmc="));

    let right = pushed(&world, &to, &login("bWU6cGE6c3M=")).await.unwrap();
    assert_eq!(right.sent.0, 7);
}

#[tokio::test]
async fn a_registry_that_is_down_is_named_before_anything_is_made() {
    let registry = Registry::start(None).await;
    let (to, host) = (registry.name("models/churn:v1"), registry.host());
    drop(registry);
    let world = World::new();
    let failed = pushed(&world, &to, &plain()).await.unwrap_err();
    assert_eq!(failed.code(), Code::ImageUnavailable);
    assert!(failed.message().contains(&host), "{}", failed.message());
    assert!(failed.next_step().unwrap().contains("port"));
    assert!(!world.layout.root().join("oci").exists());
}

#[tokio::test]
async fn a_name_by_digest_is_refused() {
    let world = World::new();
    let to = format!("127.0.0.1:1/x@sha256:{}", world.revision.package);
    let refused = pushed(&world, &to, &plain()).await.unwrap_err();
    assert_eq!(refused.code(), Code::BadRequest);
}
