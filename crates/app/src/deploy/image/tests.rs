//! Tests of which image is proposed, refused and named instead.

use super::*;

const NAME: &str = "md-base/python/";

fn image(uri: &str, python: &str) -> ImageInfo {
    ImageInfo {
        uri: format!("{NAME}{uri}"),
        python: python.to_owned(),
        summary: String::new(),
        libraries: vec!["pandas==1.5.3".to_owned()],
        debian: vec![],
        released: "2024-10-01".to_owned(),
        status: ImageStatus::Current,
        single_version: false,
    }
}

fn deprecated(uri: &str, python: &str, replaced_by: &str) -> ImageInfo {
    ImageInfo {
        status: ImageStatus::Deprecated {
            replaced_by: format!("{NAME}{replaced_by}"),
        },
        single_version: true,
        ..image(uri, python)
    }
}

fn system(uri: &str, library: &str) -> ImageInfo {
    let mut image = image(uri, "3.10");
    image.libraries.push(library.to_owned());
    image.debian.push("a-system".to_owned());
    image
}

fn catalogue() -> Vec<ImageInfo> {
    vec![
        image("python-39:2.0.2", "3.9"),
        image("python-310:1.0.0", "3.10"),
        image("python-311:1.0.0", "3.11"),
        system("java:2.1.0", "h2o==3.46.0.5"),
        system("rpy2:2.0.2", "rpy2==3.5.1"),
        image("python-313:1.0.0", "3.13"),
        image("python-313:1.1.0", "3.13"),
        deprecated("python-39:1.4.0", "3.9", "python-39:2.0.2"),
        deprecated("machine-learning:1.4.0", "3.9", "python-39:2.0.2"),
    ]
}

fn proposed(requirements: &str, imports: &[&str], versions: u64) -> Vec<String> {
    let imports = imports.iter().map(|i| (*i).to_owned()).collect();
    let needs = needs(&RequirementFiles::of(requirements), &imports);
    candidates(&catalogue(), &needs, versions)
        .iter()
        .map(|image| image.uri.trim_start_matches(NAME).to_owned())
        .collect()
}

#[test]
fn the_default_is_tried_first_and_then_the_newest() {
    let plain = [
        "python-311:1.0.0",
        "python-313:1.1.0",
        "python-310:1.0.0",
        "python-39:2.0.2",
    ];
    assert_eq!(proposed("", &[], 1), plain);
    assert_eq!(
        proposed("pandas==2.0\n# h2o\n-r other.txt\n", &["os"], 3),
        plain
    );
}

#[test]
fn a_library_that_needs_a_system_brings_its_image_first() {
    for (requirements, imports) in [("H2O>=3\n", &[][..]), ("", &["h2o"][..])] {
        let images = proposed(requirements, imports, 1);
        assert_eq!(images[..2], ["java:2.1.0", "python-311:1.0.0"]);
        assert_eq!(images.len(), 5, "and R is not tried");
    }
}

#[test]
fn the_image_named_in_the_parameters_wins() {
    let asked = DeploymentParams {
        image_uri: Some("a".to_owned()),
        ..DeploymentParams::default()
    };
    assert_eq!(named(&asked, Some("b")), Some("a"));
    assert_eq!(named(&DeploymentParams::default(), Some("b")), Some("b"));
    assert_eq!(named(&DeploymentParams::default(), None), None);
}

#[test]
fn a_deprecated_default_gives_way() {
    let mut images = catalogue();
    images[2] = deprecated("python-311:1.0.0", "3.11", "python-313:1.1.0");
    assert!(default_image(&images).unwrap().uri.ends_with("313:1.1.0"));
}

#[test]
fn unknown_names_are_refused_with_the_image_that_would_do() {
    let none = AllowedRegistries::default();
    let error = check_name(&catalogue(), &none, "md-base/python/python-38:1.3.0").unwrap_err();
    assert_eq!(error.code(), Code::UnknownImage);
    let hint = error.next_step().unwrap();
    assert!(hint.contains("`md-base/python/python-39:2.0.2`"), "{hint}");
}

#[test]
fn known_names_and_names_of_allowed_registries_pass() {
    let allowed = AllowedRegistries::parse(["localhost:5000", "registry.example/team"]).unwrap();
    for uri in [
        "md-base/python/python-39:1.4.0",
        "localhost:5000/ours:1",
        "registry.example/team/base@sha256:00",
    ] {
        check_name(&catalogue(), &allowed, uri).unwrap();
    }
    let refused = check_name(&catalogue(), &allowed, "registry.example/base:1").unwrap_err();
    assert_eq!(refused.code(), Code::BadRequest);
}

#[test]
fn images_for_single_versions_name_the_tag_to_use() {
    let images = catalogue();
    let old = find(&images, "md-base/python/python-39:1.4.0").unwrap();
    check_versions(&images, old, "p/m", 1).unwrap();
    let error = check_versions(&images, old, "p/m", 2).unwrap_err();
    assert_eq!(
        error.next_step(),
        Some("Set image_uri to `md-base/python/python-39:2.0.2`.")
    );
    check_versions(&images, &images[0], "p/m", 9).unwrap();
}
