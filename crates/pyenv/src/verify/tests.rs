//! Checks of an environment made by hand, of one distribution with one module.

use std::time::SystemTime;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;
use crate::installed::distributions;

struct World {
    dir: tempfile::TempDir,
    module: PathBuf,
}

impl World {
    /// An environment whose record promises `promised` for the module that holds `b"x = 1"`.
    fn new(promised: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packages = dir.path().join("tree/lib/python3.11/site-packages");
        let info = packages.join("a-1.dist-info");
        fs_err::create_dir_all(&info).unwrap();
        let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(promised));
        let record =
            format!("a.py,sha256={digest},5\na-1.dist-info/METADATA,,\na-1.dist-info/RECORD,,\n");
        fs_err::write(info.join("RECORD"), record).unwrap();
        let module = packages.join("a.py");
        fs_err::write(&module, "x = 1").unwrap();
        // As a file of the installer's cache, that has a name there too.
        fs_err::hard_link(&module, dir.path().join("cached")).unwrap();
        Self { dir, module }
    }

    fn notes(&self) -> PathBuf {
        self.dir.path().join("notes")
    }

    fn check(&self) -> Checked {
        let tree = self.dir.path().join("tree");
        check(&tree, &distributions(&tree).unwrap(), &self.notes()).unwrap()
    }

    /// Writes other content of the same length; the file keeps its time if `quietly`.
    fn change(&self, quietly: bool) {
        let before = fs_err::metadata(&self.module).unwrap().modified().unwrap();
        fs_err::write(&self.module, "x = 2").unwrap();
        let file = fs_err::File::options()
            .write(true)
            .open(&self.module)
            .unwrap();
        let at = if quietly {
            before
        } else {
            SystemTime::UNIX_EPOCH
        };
        file.file().set_modified(at).unwrap();
    }
}

#[test]
fn what_is_as_promised_is_found_so() {
    let world = World::new("x = 1");
    let checked = world.check();
    assert!(checked.damaged.is_empty());
    assert_eq!(checked.contents.len(), 1);
    assert_eq!(world.check().contents, checked.contents);
}

#[test]
fn a_change_is_found_at_any_time() {
    let world = World::new("x = 1");
    world.change(true);
    assert_eq!(world.check().damaged.len(), 1, "never compared before");
    let world = World::new("x = 1");
    world.check();
    world.change(false);
    let damaged = world.check().damaged;
    assert_eq!(damaged.len(), 1, "compared before");
    assert!(damaged[0].files[0].ends_with("a.py"));
    fs_err::remove_file(&world.module).unwrap();
    assert_eq!(world.check().damaged.len(), 1, "gone");
}

#[test]
fn what_was_compared_is_not_read_again_until_the_machine_restarts() {
    let world = World::new("x = 1");
    world.check();
    world.change(true);
    assert!(world.check().damaged.is_empty());
    let note = fs_err::read_dir(world.notes())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    // Another boot gives another look, as a torn note does.
    fs_err::write(note.path(), "another\n\n").unwrap();
    assert_eq!(world.check().damaged.len(), 1);
}

#[test]
fn what_only_this_environment_has_is_read_every_time() {
    let world = World::new("x = 1");
    fs_err::remove_file(world.dir.path().join("cached")).unwrap();
    world.check();
    world.change(true);
    assert_eq!(world.check().damaged.len(), 1);
}

#[test]
fn a_wrong_record_is_accepted_for_that_content_only() {
    let world = World::new("not what it is");
    let damaged = world.check().damaged;
    accept(&damaged[0], &world.notes()).unwrap();
    let checked = world.check();
    assert!(checked.damaged.is_empty());
    assert_eq!(checked.contents["a"], damaged[0].content);
    assert_eq!(world.check().contents, checked.contents);
    world.change(false);
    assert_eq!(world.check().damaged.len(), 1);
}
