//! From the name of a module to the distribution that brings it.

/// Modules whose distribution has another name.
const KNOWN: &[(&str, &str)] = &[
    ("Bio", "biopython"),
    ("Crypto", "pycryptodome"),
    ("MySQLdb", "mysqlclient"),
    ("OpenSSL", "pyOpenSSL"),
    ("PIL", "pillow"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("cairo", "pycairo"),
    ("category_encoders", "category-encoders"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("dotenv", "python-dotenv"),
    ("en_core_web_sm", "en-core-web-sm"),
    ("faiss", "faiss-cpu"),
    ("fiddler", "fiddler-client"),
    ("fitz", "PyMuPDF"),
    ("git", "GitPython"),
    ("google.protobuf", "protobuf"),
    ("grpc", "grpcio"),
    ("hydra", "hydra-core"),
    ("imblearn", "imbalanced-learn"),
    ("jose", "python-jose"),
    ("jwt", "PyJWT"),
    ("kafka", "kafka-python"),
    ("keras_preprocessing", "Keras-Preprocessing"),
    ("magic", "python-magic"),
    ("mpl_toolkits", "matplotlib"),
    ("nacl", "PyNaCl"),
    ("osgeo", "GDAL"),
    ("pkg_resources", "setuptools"),
    ("psycopg2", "psycopg2-binary"),
    ("pytorch_lightning", "pytorch-lightning"),
    ("pytorch_tabnet", "pytorch-tabnet"),
    ("ruamel", "ruamel.yaml"),
    ("sentence_transformers", "sentence-transformers"),
    ("serial", "pyserial"),
    ("skimage", "scikit-image"),
    ("sklearn", "scikit-learn"),
    ("sklearn_pandas", "sklearn-pandas"),
    ("skopt", "scikit-optimize"),
    ("sksurv", "scikit-survival"),
    ("slugify", "python-slugify"),
    ("socks", "PySocks"),
    ("talib", "TA-Lib"),
    ("tensorflow_hub", "tensorflow-hub"),
    ("usb", "pyusb"),
    ("yaml", "PyYAML"),
    ("zmq", "pyzmq"),
];

/// The requirement that brings the module `module` (dotted or not): the well-known distribution, or
/// the module's own top-level name.
pub fn suggest_requirement(module: &str) -> String {
    let top = module.split('.').next().unwrap_or(module);
    let within = |known: &str| {
        module
            .strip_prefix(known)
            .is_some_and(|rest| matches!(rest.chars().next(), None | Some('.')))
    };
    let known = KNOWN
        .iter()
        .filter(|(known, _)| within(known))
        .max_by_key(|(known, _)| known.len());
    known
        .map_or(top, |(_, distribution)| *distribution)
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
        ] {
            assert_eq!(suggest_requirement(module), expected);
        }
    }

    #[test]
    fn the_table_is_sorted_and_has_no_doubles() {
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0), "{KNOWN:?}");
    }
}
