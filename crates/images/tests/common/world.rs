//! A small revision to make an image of. The tests within the crate and those beside it include this
//! file; the module above names [`Revision`].

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use luthier_types::{
    DataType, Digest, EnvId, RevisionId, layout::CacheLayout, runner::InputColumn,
};
use tempfile::TempDir;

use super::Revision;

/// A cache with one revision in it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) layout: CacheLayout,
    pub(crate) revision: Revision,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = CacheLayout::new(dir.path().join("cache"));
        let revision = Revision {
            id: RevisionId::new(),
            model: "Bank/churn:v1".to_owned(),
            image_uri: "md-base/python/python-311:1.0.0".to_owned(),
            image: Digest::of("image"),
            rootfs: Digest::of("rootfs"),
            interpreter: Digest::of("interpreter"),
            variables: [].into(),
            env: EnvId(Digest::of("env")),
            runner: Digest::of("runner"),
            package: Digest::of("none yet"),
            inputs: vec![InputColumn {
                name: "age".to_owned(),
                data_type: DataType::Int,
            }],
            outputs: vec!["p".to_owned()],
            created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let r = &revision;
        let rootfs = layout.rootfs(&r.rootfs);
        write(&rootfs.join("etc/hostname"), "localhost\n", 0o644);
        fs::create_dir_all(rootfs.join("tmp")).unwrap();
        fs::set_permissions(rootfs.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        symlink("usr/bin", rootfs.join("bin")).unwrap();
        write(&rootfs.join("usr/bin/true"), "#!/bin/sh\n", 0o755);
        let interpreter = layout.interpreter(&r.interpreter);
        write(&interpreter.join("bin/python3"), "x", 0o755);
        write(&layout.env(&r.env).join("pyvenv.cfg"), "home = x\n", 0o600);
        write(&layout.runner(&r.runner).join("main.py"), "main()\n", 0o644);
        let mut world = Self {
            dir,
            layout,
            revision,
        };
        world.package("package", "def get_model(): ...\n");
        world
    }

    /// Gives the revision another package, which makes it another revision.
    pub(crate) fn package(&mut self, name: &str, text: &str) {
        self.revision.id = RevisionId::new();
        self.revision.package = Digest::of(name);
        let place = self.layout.package(&self.revision.package);
        write(&place.join("package.py"), text, 0o444);
        let deep = "d".repeat(60);
        let deep = place.join(&deep).join(&deep);
        write(&deep.join("weights.bin"), text, 0o444);
    }
}

/// Writes a file with its directories.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
