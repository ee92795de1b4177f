//! Changing what a running container may use, through its cgroup.
//!
//! The kernel is told first, the container's description after it: who is killed between the two
//! finds the old figures there and asks again.

use std::collections::BTreeMap;

use libcgroups::common::{CgroupConfig, CgroupManager as _, ControllerOpt, create_cgroup_manager};
use luthier_ports::{ContainerId, ContainerState, Resized};
use luthier_types::{Error, Resources, Result};

use super::{Inner, unreadable};
use crate::{cgroup::Mounts, dir::Stored, oci};

impl Inner {
    pub(super) fn resize(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: &BTreeMap<String, String>,
    ) -> Result<Resized> {
        let dir = self.dir(id);
        let refused = |cause: &str| Ok(Resized::Refused(cause.to_owned()));
        let Some(before) = dir.stored().map_err(unreadable)? else {
            return refused("there is no such container");
        };
        if !matches!(self.state(&dir, &before)?, ContainerState::Running { .. }) {
            return refused("it does not run");
        }
        let mut after = before.clone();
        after.container.memory = resources.memory;
        after.container.cpu = resources.cpu;
        after.container.labels.clone_from(labels);
        if after.container.memory < before.container.memory {
            match before.cgroup().peak() {
                Some(peak) if peak <= resources.memory.bytes() => {}
                Some(_) => return refused("it has used more memory than it would have"),
                None => return refused("the kernel does not tell how much memory it has used"),
            }
        }
        if let Err(cause) = limit(&after) {
            // It may have ended under it, or use more than a moment ago. What was changed is changed
            // back; if that fails too, it is because nothing is there to be limited.
            let _ = limit(&before);
            return refused(&cause);
        }
        dir.write_stored(&after)
            .map_err(|e| Error::internal("recording a container's limits", e))?;
        Ok(Resized::Done)
    }
}

/// Sets the limits that `stored` names.
fn limit(stored: &Stored) -> Result<(), String> {
    let resources =
        oci::changeable(stored, Mounts::read().limits_swap()).map_err(|e| e.to_string())?;
    // It warns at each call of every controller that the machine lacks.
    let quiet = tracing::subscriber::NoSubscriber::new();
    tracing::subscriber::with_default(quiet, || {
        let config = CgroupConfig {
            cgroup_path: stored.cgroup.clone(),
            systemd_cgroup: false,
            container_name: stored.container.id.0.clone(),
        };
        let manager = create_cgroup_manager(config).map_err(|e| e.to_string())?;
        manager
            .apply(&ControllerOpt {
                resources: &resources,
                disable_oom_killer: false,
                oom_score_adj: None,
                freezer_state: None,
            })
            .map_err(|e| e.to_string())
    })
}
