//! Environments made for real: uv, the package index, the images' interpreters. The cache is
//! shared by the runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Instant,
};

use luthier_images::LocalImages;
use luthier_ports::{EnvBuilder, Images, Lock, LockRequest, LogSink, ResolvedImage};
use luthier_pyenv::{Options, Sources, UvEnvs};
use luthier_types::{Code, RequirementFiles, layout::CacheLayout};

const PYTHON_39: &str = "md-base/python/python-39:2.0.2";
const PYTHON_311: &str = "md-base/python/python-311:1.0.0";
const MODEL_A: &str = "scikit-learn==1.0.2\npandas==1.5.3\nnumpy==1.23.5\n";
const MODEL_B: &str = "scikit-learn==1.5.2\n";

fn layout() -> CacheLayout {
    CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
}

fn envs() -> UvEnvs {
    UvEnvs::new(Options::new(layout()))
}

async fn image(uri: &str) -> ResolvedImage {
    let images = LocalImages::new(luthier_images::Options::new(layout())).unwrap();
    images.ensure(uri, &LogSink::none()).await.unwrap()
}

fn request(image: &ResolvedImage, requirements: &str) -> LockRequest {
    LockRequest {
        image: image.clone(),
        requirements: RequirementFiles::of(requirements),
        wheels_only: false,
    }
}

/// Runs a script on the environment's packages, with the host's copy of its interpreter.
fn run(image: &ResolvedImage, env: &Path, script: &str) -> String {
    let packages = env.join(format!("lib/python{}/site-packages", image.info.python));
    let script = format!("import sys; sys.path.insert(0, {packages:?}); {script}");
    let run = Command::new(layout().interpreter(&image.interpreter).join("bin/python3"))
        .args(["-I", "-S", "-c", &script])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{errors}");
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

async fn locked(uri: &str, requirements: &str) -> (ResolvedImage, Lock) {
    let image = image(uri).await;
    let lock = envs()
        .lock(&request(&image, requirements), &LogSink::none())
        .await
        .unwrap();
    (image, lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_with_conflicting_libraries_get_an_environment_each() {
    for (uri, requirements, versions) in [
        (PYTHON_39, MODEL_A, "1.0.2 1.5.3 1.23.5"),
        (PYTHON_311, MODEL_B, "1.5.2 2.2.3 1.26.4"),
    ] {
        let started = Instant::now();
        let (image, lock) = locked(uri, requirements).await;
        let locked_in = started.elapsed();
        let env = envs().build(&lock, &image, &LogSink::none()).await.unwrap();
        println!("{uri}: lock {locked_in:?}, both {:?}", started.elapsed());
        assert_eq!(env, layout().env(&lock.id));
        let script = "import sklearn, sklearn.linear_model, pandas, numpy, pyarrow, fiddler; \
                      print(sklearn.__version__, pandas.__version__, numpy.__version__)";
        assert_eq!(run(&image, &env, script), versions);
        assert_in_a_containers_terms(&image, &env);
    }
}

/// Nothing in the environment speaks of the host.
fn assert_in_a_containers_terms(image: &ResolvedImage, env: &Path) {
    let settings = fs_err::read_to_string(env.join("pyvenv.cfg")).unwrap();
    assert!(
        settings.contains("home = /opt/luthier/python/bin\n"),
        "{settings}"
    );
    assert_eq!(
        fs_err::read_link(env.join("bin/python")).unwrap(),
        Path::new("/opt/luthier/python/bin/python3")
    );
    let gunicorn = fs_err::read_to_string(env.join("bin/gunicorn")).unwrap();
    assert!(
        !gunicorn.contains(env!("CARGO_TARGET_TMPDIR")),
        "{gunicorn}"
    );
    let tag = image.info.python.replace('.', "");
    let compiled = env.join(format!(
        "lib/python{}/site-packages/flask/__pycache__/app.cpython-{tag}.pyc",
        image.info.python
    ));
    let compiled = fs_err::read(compiled).unwrap();
    assert_eq!(
        compiled[4], 1,
        "compiled modules must hold without their source's time"
    );
    assert!(!String::from_utf8_lossy(&compiled).contains(env!("CARGO_TARGET_TMPDIR")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_preinstalled_library_of_every_image_imports() {
    for uri in [PYTHON_39, "md-base/python/python-310:1.0.0", PYTHON_311] {
        let image = image(uri).await;
        let request = LockRequest {
            image: image.clone(),
            requirements: RequirementFiles::default(),
            wheels_only: false,
        };
        let lock = envs().lock(&request, &LogSink::none()).await.unwrap();
        let env = envs().build(&lock, &image, &LogSink::none()).await.unwrap();
        let script = "import fiddler, flask, gevent, gunicorn.app.base, \
             prometheus_flask_exporter, pyarrow, pydantic; from importlib.metadata import version; \
             print(*(n + '==' + version(n) for n in ['fiddler-client', 'flask', 'gevent', \
             'gunicorn', 'prometheus-flask-exporter', 'pyarrow', 'pydantic']), sep=';')";
        assert_eq!(run(&image, &env, script), image.info.libraries.join(";"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_lock_is_built_once_and_shares_its_files() {
    let (image, lock) = locked(PYTHON_311, MODEL_B).await;
    let (one, other) = tokio::join!(
        async { envs().build(&lock, &image, &LogSink::none()).await.unwrap() },
        async { envs().build(&lock, &image, &LogSink::none()).await.unwrap() },
    );
    assert_eq!(one, other);
    let before = fs_err::metadata(&one).unwrap().ino();
    let lines = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&lines);
    let log = LogSink::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    envs().build(&lock, &image, &log).await.unwrap();
    assert_eq!(fs_err::metadata(&one).unwrap().ino(), before);
    assert_eq!(lines.lock().unwrap().len(), 1, "{lines:?}");

    // Another environment with the same library shares its files and compiled modules.
    let (_, larger) = locked(PYTHON_311, "scikit-learn==1.5.2\ncowsay==6.1\n").await;
    let larger = envs()
        .build(&larger, &image, &LogSink::none())
        .await
        .unwrap();
    assert_ne!(larger, one);
    for file in [
        "sklearn/base.py",
        "sklearn/__pycache__/base.cpython-311.pyc",
    ] {
        let inode = |env: &Path| {
            let path = env.join("lib/python3.11/site-packages").join(file);
            fs_err::metadata(path).unwrap().ino()
        };
        assert_eq!(inode(&one), inode(&larger), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_pins_and_hashes_everything_and_names_no_index() {
    let (image, lock) = locked(PYTHON_39, MODEL_A).await;
    assert_eq!(lock.image, image.digest);
    assert!(!lock.text.contains("://") && !lock.text.contains("index") && !lock.text.contains('#'));
    for line in lock.text.lines().filter(|l| !l.starts_with(' ')) {
        assert!(line.contains("==") && line.ends_with('\\'), "{line}");
    }
    // What the package does not touch stays at the image's version.
    for pin in [
        "flask==2.2.5",
        "pyarrow==14.0.1",
        "werkzeug==3.0.4",
        "urllib3==2.2.3",
    ] {
        assert!(lock.text.contains(&format!("{pin} \\\n")), "{pin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_the_package_names_replaces_the_images() {
    let (_, lock) = locked(PYTHON_311, "Flask==3.0.3\n").await;
    assert!(lock.text.contains("flask==3.0.3 \\\n"));
    assert!(lock.text.contains("pyarrow==14.0.1 \\\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_that_cannot_be_met_are_explained() {
    let image = image(PYTHON_311).await;
    for (requirements, word) in [
        ("scikit-learn==99.0\n", "scikit-learn"),
        ("numpy==2.0.2\n", "pyarrow==14.0.1"),
        ("pandas==1.5.3\nnumpy==1.19.5\n", "numpy"),
        ("typing-extensions==4.12.0\n", "fiddler-client==3.0.3"),
    ] {
        let error = envs()
            .lock(&request(&image, requirements), &LogSink::none())
            .await
            .unwrap_err();
        println!("{}\n", error.public_text());
        assert_eq!(error.code(), Code::RequirementsError, "{error:?}");
        let output = error.observed().output.as_deref().unwrap_or_default();
        assert!(output.contains("unsatisfiable"), "{output}");
        assert!(error.next_step().unwrap().contains(word), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_out_of_reach_is_told_as_such_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let image = image(PYTHON_311).await;
    let away = CacheLayout::new(cache.path());
    // The image's interpreter, in a cache that holds no packages.
    let interpreter = away.interpreter(&image.interpreter);
    fs_err::create_dir_all(interpreter.parent().unwrap()).unwrap();
    fs_err::os::unix::fs::symlink(layout().interpreter(&image.interpreter), interpreter).unwrap();
    let envs = UvEnvs::new(Options {
        sources: Sources {
            index: Some("http://user:s3cret@127.0.0.1:9/simple".to_owned()),
            ..Sources::default()
        },
        ..Options::new(away.clone())
    });
    let error = envs
        .lock(&request(&image, MODEL_B), &LogSink::none())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::IndexUnreachable, "{error:?}");
    assert!(!error.public_text().contains("s3cret"));
    assert!(
        error.message().contains("http://127.0.0.1:9/simple"),
        "{error}"
    );

    let (_, lock) = locked(PYTHON_311, MODEL_B).await;
    let error = envs
        .build(&lock, &image, &LogSink::none())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::IndexUnreachable, "{error:?}");
    assert!(!away.env(&lock.id).exists());
    assert_eq!(fs_err::read_dir(away.staging()).unwrap().count(), 0);
}
