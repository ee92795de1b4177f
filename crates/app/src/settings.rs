//! What an operator may set.

use std::time::Duration;

use jiff::SignedDuration;
use luthier_data::Bounds;
use luthier_ports::AllowedRegistries;
use luthier_types::{Mebibytes, Millicpu};

use crate::Token;

/// What the machine has to give to replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All CPU.
    pub cpu: Millicpu,
    /// All memory.
    pub memory: Mebibytes,
}

/// Limits and names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the organisation.
    pub organization: String,
    /// The admin token.
    pub token: Token,
    /// Largest body taken, of JSON or of rows in any form, in bytes.
    pub max_json_bytes: u64,
    /// Most that the rows of one request may unpack to, in forms other than JSON.
    pub table_bounds: Bounds,
    /// Largest upload in one request (a file or a part of one), in bytes.
    pub max_upload_bytes: u64,
    /// Largest file put together from parts, in bytes.
    pub max_file_bytes: u64,
    /// Most bytes a package may unpack to.
    pub max_package_bytes: u64,
    /// How long a replica may take to load its model.
    pub load_timeout: Duration,
    /// How long a deployment may take to settle.
    pub deploy_timeout: Duration,
    /// How long one predict request may take.
    pub predict_timeout: Duration,
    /// How long one explain request may take; under the 100 s after which the stock client hangs up
    /// and asks again.
    pub explain_timeout: Duration,
    /// What the machine has to give to replicas.
    pub machine: Capacity,
    /// A token that reads the metrics and nothing else, if there is one.
    pub metrics_token: Option<Token>,
    /// How long entries of the audit log are kept.
    pub audit_kept: SignedDuration,
    /// Registries whose images may be named.
    pub registries: AllowedRegistries,
}

impl Settings {
    /// The defaults for a machine of this size.
    pub fn new(token: Token, machine: Capacity) -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            organization: "luthier".to_owned(),
            token,
            max_json_bytes: 64 * MIB,
            table_bounds: Bounds::default(),
            // The client sends up to 100 MiB in one request.
            max_upload_bytes: 128 * MIB,
            max_file_bytes: 2048 * MIB,
            max_package_bytes: 10 * 1024 * MIB,
            load_timeout: Duration::from_secs(120),
            deploy_timeout: Duration::from_secs(600),
            predict_timeout: Duration::from_secs(60),
            explain_timeout: Duration::from_secs(90),
            machine,
            metrics_token: None,
            audit_kept: SignedDuration::from_hours(24 * 365),
            registries: AllowedRegistries::default(),
        }
    }
}
