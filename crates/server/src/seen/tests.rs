//! Ids, labels, and which routes are changes.

use super::*;

#[test]
fn ids_are_short_and_plain() {
    assert!(is_id("0199-abc_DEF.1:2"));
    for wrong in ["", "a b", "a\nb", "é", &"x".repeat(101)] {
        assert!(!is_id(wrong), "{wrong:?}");
    }
}

#[test]
fn what_is_not_known_to_change_nothing_is_a_change() {
    assert!(!is_change(&Method::GET, "/v3/models"));
    assert!(!is_change(&Method::POST, "/v3/predict"));
    assert!(is_change(&Method::POST, "/v9/new-route"));
    assert!(is_change(&Method::DELETE, "/v3/models/{id}"));
}

#[test]
fn a_path_names_its_model() {
    let id = luthier_types::ModelId::new();
    let path = format!("/v3/models/{id}/deployment");
    assert_eq!(model_of("/v3/models/{id}/deployment", &path), Some(id));
    assert_eq!(model_of("/v3/projects/{id}", &path), None);
    assert_eq!(
        model_of("/v2/models/{name}/infer", "/v2/models/a.b/infer"),
        None
    );
}
