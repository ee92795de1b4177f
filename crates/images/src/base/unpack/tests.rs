//! Layers over each other, and archives that try to lead out of their tree.

use std::fs;

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

/// One entry of an archive.
#[derive(Clone, Copy, Debug)]
enum Item {
    File(&'static str, &'static str),
    Dir(&'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
}
use Item::{Dir, File, Hard, Link};

fn archive(items: &[Item]) -> Vec<u8> {
    let mut tar = Builder::new(vec![]);
    for item in items {
        let mut header = Header::new_gnu();
        header.set_mode(0o4755);
        let (name, data, kind, target) = match item {
            File(name, text) => (name, *text, EntryType::Regular, None),
            Dir(name) => (name, "", EntryType::Directory, None),
            Link(name, target) => (name, "", EntryType::Symlink, Some(target)),
            Hard(name, target) => (name, "", EntryType::Link, Some(target)),
        };
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        // As they are, whatever they say.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = target {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, data.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A directory with the layers laid into `image`, and a file beside it that nobody may touch.
fn laid(layers: &[&[Item]]) -> (tempfile::TempDir, io::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), "mine").unwrap();
    let root = dir.path().join("image");
    let mut tree = Tree::new(&root, Limits::default()).unwrap();
    let all = layers
        .iter()
        .try_for_each(|layer| tree.lay(archive(layer).as_slice()));
    assert_eq!(
        fs::read_to_string(dir.path().join("outside/file")).unwrap(),
        "mine"
    );
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    (dir, all)
}

fn read(dir: &tempfile::TempDir, path: &str) -> Option<String> {
    fs::read_to_string(dir.path().join("image").join(path)).ok()
}

#[test]
fn upper_layers_replace_and_remove() {
    let (dir, all) = laid(&[
        &[
            Dir("etc"),
            File("etc/a", "1"),
            File("etc/b", "1"),
            File("d/x", "1"),
            File("d/sub/y", "1"),
            File("was-file", "1"),
            File("was-dir/z", "1"),
        ],
        &[
            File("etc/a", "2"),
            File("etc/.wh.b", ""),
            File("d/.wh..wh..opq", ""),
            File("d/new", "2"),
            File("was-file/now", "2"),
            File("was-dir", "2"),
            File(".wh.never-there", ""),
        ],
    ]);
    all.unwrap();
    for (path, text) in [
        ("etc/a", Some("2")),
        ("etc/b", None),
        ("d/x", None),
        ("d/sub/y", None),
        ("d/new", Some("2")),
        ("was-file/now", Some("2")),
        ("was-dir", Some("2")),
    ] {
        assert_eq!(read(&dir, path).as_deref(), text, "{path}");
    }
}

#[test]
fn an_opaque_directory_keeps_what_its_own_layer_brings_before_it() {
    let (dir, all) = laid(&[
        &[File("d/old", "1"), File("d/sub/old", "1")],
        &[File("d/sub/new", "2"), File("d/.wh..wh..opq", "")],
    ]);
    all.unwrap();
    assert_eq!(read(&dir, "d/old"), None);
    assert_eq!(read(&dir, "d/sub/old"), None);
    assert_eq!(read(&dir, "d/sub/new").as_deref(), Some("2"));
}

#[test]
fn links_are_followed_within_the_image_alone() {
    let (dir, all) = laid(&[&[
        Link("up", "../outside"),
        Link("abs", "/outside"),
        Link("far", "../../../../outside"),
        Link("usr/lib64", "/lib/x86"),
        File("up/planted", "1"),
        File("abs/planted", "2"),
        File("far/planted", "3"),
        File("usr/lib64/so", "4"),
    ]]);
    all.unwrap();
    // Each leads to the image's own `outside`, or `lib`.
    assert_eq!(read(&dir, "outside/planted").as_deref(), Some("3"));
    assert_eq!(read(&dir, "lib/x86/so").as_deref(), Some("4"));
}

#[test]
fn a_file_over_a_link_replaces_the_link_and_not_what_it_leads_to() {
    let (dir, all) = laid(&[
        &[
            Link("etc/hosts", "../../outside/file"),
            Link("gone", "../outside"),
        ],
        &[File("etc/hosts", "new"), File(".wh.gone", "")],
    ]);
    all.unwrap();
    assert_eq!(read(&dir, "etc/hosts").as_deref(), Some("new"));
    assert!(!dir.path().join("image/gone").is_symlink());
}

#[test]
fn hard_links_reach_the_image_alone() {
    let (dir, all) = laid(&[&[File("a", "1"), Hard("b", "a"), Hard("sub/c", "/a")]]);
    all.unwrap();
    assert_eq!(read(&dir, "sub/c").as_deref(), Some("1"));
    let (_dir, refused) = laid(&[&[Link("up", "../outside"), Hard("b", "up/file")]]);
    assert!(refused.is_err());
    let (_dir, refused) = laid(&[&[Hard("b", "../outside/file")]]);
    assert!(refused.unwrap_err().to_string().contains("leads upwards"));
}

#[test]
fn paths_that_lead_upwards_are_refused() {
    for name in ["../outside/file", "a/../../outside/new", "/../outside/new"] {
        let (_dir, refused) = laid(&[&[File(name, "x")]]);
        assert!(refused.is_err(), "{name}");
    }
    let (_dir, all) = laid(&[&[File(".wh...", ""), File(".wh..", "")]]);
    all.unwrap();
}

#[test]
fn bytes_entries_and_rights_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("image");
    let limits = Limits {
        bytes: 3,
        entries: 10,
    };
    let mut tree = Tree::new(&root, limits).unwrap();
    tree.lay(archive(&[File("a", "12")]).as_slice()).unwrap();
    let mode = fs::metadata(root.join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-id bit");
    let refused = tree.lay(archive(&[File("b", "12")]).as_slice());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("more than it may")
    );
    let many = [Dir("d"); 10].to_vec();
    assert!(tree.lay(archive(&many).as_slice()).is_err());
}

proptest! {
    /// Whatever the layers say, nothing beside the image is touched: [`laid`] looks.
    #[test]
    fn nothing_leads_out(items in prop::collection::vec(any_item(), 1..12)) {
        let (lower, upper) = items.split_at(items.len() / 2);
        let _ = laid(&[lower, upper]);
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    let names = prop::sample::select(vec![
        "a",
        "a/b",
        "a/b/c",
        "l",
        "l/file",
        "l/new",
        "l/a/b",
        "/abs",
        ".wh.a",
        "a/.wh.b",
        "l/.wh.file",
        "l/.wh..wh..opq",
        "..",
        "../outside",
        "a/..",
        "l/..",
        ".",
    ]);
    let targets = prop::sample::select(vec![
        "..",
        "../outside",
        "/outside",
        "a",
        "l",
        "/",
        "../outside/file",
        "a/b",
        ".",
    ]);
    (0..4, names, targets).prop_map(|(kind, name, target)| match kind {
        0 => File(name, "text"),
        1 => Dir(name),
        2 => Link(name, target),
        _ => Hard(name, target),
    })
}
