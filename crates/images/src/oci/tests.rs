//! Layers, layouts and what they promise: the same bytes for the same content, and nothing made
//! or moved twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::Mutex,
};

use luthier_types::Code;
use serde_json::Value;

use super::*;
use world::{World, write};

#[path = "../../tests/common/world.rs"]
mod world;

impl World {
    async fn image(&self) -> (Image, Vec<String>) {
        let notes = Mutex::new(vec![]);
        let note = |line| notes.lock().unwrap().push(line);
        let image = image(&self.layout, &self.revision, &note).await.unwrap();
        (image, notes.into_inner().unwrap())
    }

    async fn export(&self, target: &Target) -> Result<Exported> {
        export(&self.layout, &self.revision, target, None, &|_| {}).await
    }
}

fn digests(image: &Image) -> Vec<Digest> {
    image.layers.iter().map(|(_, b)| b.digest.clone()).collect()
}

/// The entries of a layer: name, then type, mode, owner, time and content or target.
fn entries(path: &Path) -> BTreeMap<String, (u8, u32, u64, u64, String)> {
    let gz = flate2::read::GzDecoder::new(fs::File::open(path).unwrap());
    let mut archive = tar::Archive::new(gz);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let header = entry.header().clone();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            text = target.display().to_string();
        }
        found.insert(
            name,
            (
                header.entry_type().as_byte(),
                header.mode().unwrap(),
                header.uid().unwrap() + header.gid().unwrap(),
                header.mtime().unwrap(),
                text,
            ),
        );
    }
    found
}

#[tokio::test]
async fn layers_hold_the_revision_in_order_and_nothing_of_this_machine() {
    let world = World::new();
    let (image, _) = world.image().await;
    let kinds: Vec<String> = image.layers.iter().map(|(k, _)| k.to_string()).collect();
    assert_eq!(
        kinds,
        [
            "root file system",
            "interpreter",
            "environment",
            "runner",
            "package",
            "configuration"
        ]
    );
    let layer = |i: usize| entries(&image.layers[i].1.path(&world.layout));
    let time = 315_532_800;
    let rootfs = layer(0);
    assert_eq!(rootfs["tmp/"].1, 0o1777);
    assert_eq!(rootfs["bin"], (b'2', 0o777, 0, time, "usr/bin".to_owned()));
    assert_eq!(rootfs["usr/bin/true"].1, 0o755);
    let env = layer(2);
    assert_eq!(
        env["opt/luthier/env/pyvenv.cfg"],
        (b'0', 0o644, 0, time, "home = x\n".to_owned())
    );
    let package = layer(4);
    let deep = "d".repeat(60);
    assert!(package.contains_key(&format!("opt/luthier/package/{deep}/{deep}/weights.bin")));
    let config: RunnerConfig =
        serde_json::from_str(&layer(5)["opt/luthier/config/runner.json"].4).unwrap();
    assert_eq!(config.listen, "tcp:0.0.0.0:8080");
    assert_eq!(config.inputs, world.revision.inputs);
}

#[tokio::test]
async fn the_same_revision_makes_the_same_bytes_elsewhere() {
    let (one, other) = (World::new(), World::new());
    // Written at another time, in another order, under another umask.
    let place = other.layout.env(&other.revision.env).join("pyvenv.cfg");
    fs::set_permissions(&place, Permissions::from_mode(0o664)).unwrap();
    let mut revision = other.revision.clone();
    revision.id = one.revision.id;
    let again = image(&other.layout, &revision, &|_| {}).await.unwrap();
    assert_eq!(one.image().await.0.manifest, again.manifest);
}

#[tokio::test]
async fn a_new_package_version_makes_its_own_layer_only() {
    let mut world = World::new();
    let (first, made) = world.image().await;
    assert_eq!(made.len(), 6);
    assert!(world.image().await.1.is_empty(), "nothing is made twice");
    world.package("package 2", "def get_model(): return 2\n");
    let (second, made) = world.image().await;
    assert_eq!(made, ["making the package layer"]);
    let (first, second) = (digests(&first), digests(&second));
    let same: Vec<bool> = first.iter().zip(&second).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, true, true, false, true]);
}

#[tokio::test]
async fn a_damaged_blob_in_the_cache_is_made_again() {
    let world = World::new();
    let (image, _) = world.image().await;
    let path = image.layers[4].1.path(&world.layout);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (again, made) = world.image().await;
    assert_eq!(made, ["making the package layer"]);
    assert_eq!(again.layers, image.layers);
    assert!(blob::is_whole(&path, &again.layers[4].1).unwrap());
}

#[tokio::test]
async fn a_revision_of_another_machine_is_refused_with_the_part_that_lacks() {
    let mut world = World::new();
    world.revision.package = Digest::of("elsewhere");
    let refused = image(&world.layout, &world.revision, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(
        refused.message().contains("package"),
        "{}",
        refused.message()
    );
    assert_eq!(world_left(&world), 0);
}

fn world_left(world: &World) -> usize {
    fs::read_dir(world.layout.staging()).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_directory_takes_many_images_and_shares_their_blobs() {
    let mut world = World::new();
    let path = world.dir.path().join("out");
    let target = Target::Directory(path.clone());
    let first = world.export(&target).await.unwrap();
    assert_eq!(first.name, "bank/churn:v1");
    let count = || fs::read_dir(path.join("blobs/sha256")).unwrap().count();
    assert_eq!(count(), 8);
    world.export(&target).await.unwrap();
    assert_eq!(count(), 8);
    world.package("package 2", "other\n");
    world.revision.model = "Bank/churn:v2".to_owned();
    world.export(&target).await.unwrap();
    assert_eq!(count(), 8 + 3, "package, configuration and manifest");
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    let names: BTreeSet<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            m["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(names, BTreeSet::from(["bank/churn:v1", "bank/churn:v2"]));
}

#[tokio::test]
async fn a_directory_with_something_else_in_it_is_left_alone() {
    let world = World::new();
    let path = world.dir.path().join("mine");
    write(&path.join("letter.txt"), "dear", 0o644);
    let refused = world
        .export(&Target::Directory(path.clone()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::BadRequest);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[tokio::test]
async fn skopeo_reads_the_directory_and_the_archive() {
    let world = World::new();
    let (path, file) = (
        world.dir.path().join("out"),
        world.dir.path().join("out.tar"),
    );
    world
        .export(&Target::Directory(path.clone()))
        .await
        .unwrap();
    world.export(&Target::Archive(file.clone())).await.unwrap();
    for source in [
        format!("oci:{}:bank/churn:v1", path.display()),
        format!("oci-archive:{}:bank/churn:v1", file.display()),
    ] {
        let run = |args: &[&str]| {
            let ran = Command::new("skopeo").args(args).output().unwrap();
            assert!(
                ran.status.success(),
                "{}",
                String::from_utf8_lossy(&ran.stderr)
            );
            ran.stdout
        };
        let seen: Value = serde_json::from_slice(&run(&["inspect", &source])).unwrap();
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 6);
        assert_eq!(seen["Os"], "linux");
        let config: Value =
            serde_json::from_slice(&run(&["inspect", "--config", &source])).unwrap();
        let entrypoint: Vec<&str> = config["config"]["Entrypoint"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect();
        assert_eq!(entrypoint, runner::COMMAND);
        assert_eq!(config["config"]["User"], "1000:1000");
        assert!(config["config"]["ExposedPorts"]["8080/tcp"].is_object());
        // A copy checks every blob against its digest, and the layers against the configuration.
        let copy = world.dir.path().join("copy");
        run(&[
            "--insecure-policy",
            "copy",
            &source,
            &format!("dir:{}", copy.display()),
        ]);
        fs::remove_dir_all(copy).unwrap();
    }
}
