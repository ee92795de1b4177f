//! From the name of a module to the distribution that brings it.

use crate::tables::distributions;

/// The requirement that brings the module `module` (dotted or not): the well-known distribution, or
/// the module's own top-level name.
pub fn suggest_requirement(module: &str) -> String {
    let top = module.split('.').next().unwrap_or(module);
    distributions(module)
        .first()
        .map_or(top, |distribution| distribution)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_names_are_translated_and_others_kept() {
        for (module, expected) in [
            ("sklearn.linear_model", "scikit-learn"),
            ("cv2", "opencv-python-headless"),
            ("google.protobuf.message", "protobuf"),
            ("xgboost", "xgboost"),
            ("lightgbm.sklearn", "lightgbm"),
            ("of_our_own.x", "of_our_own"),
        ] {
            assert_eq!(suggest_requirement(module), expected);
        }
    }
}
