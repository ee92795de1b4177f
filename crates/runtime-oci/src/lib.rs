//! runtime-oci
