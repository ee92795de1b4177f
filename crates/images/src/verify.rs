//! The smoke check of an image: a Python program that imports all it promises.

use luthier_types::Result;

use crate::LocalImages;

/// Checks each pin and imports the modules of its distribution. It ends with status 1, and says
/// which and why, if one cannot be imported.
const SCRIPT: &str = r#"
import importlib, importlib.metadata, sys, traceback

def modules(distribution):
    found = set()
    for path in distribution.files or []:
        parts = path.parts
        if len(parts) == 2 and parts[1] == '__init__.py':
            found.add(parts[0])
        elif len(parts) == 1 and path.suffix == '.py':
            found.add(path.stem)
    return sorted(found - {'test', 'tests', 'docs', 'examples'})

failed = 0
for pin in PINS:
    name, version = pin.split('==')
    try:
        distribution = importlib.metadata.distribution(name)
        assert distribution.version == version, 'it is %s' % distribution.version
        names = modules(distribution)
        assert names, 'it has no module'
        for module in names:
            importlib.import_module(module)
        print('ok', pin, *names, flush=True)
    except BaseException:
        failed = 1
        print('FAILED', pin, traceback.format_exc(), sep='\n', flush=True)
if failed:
    sys.exit(1)
"#;

impl LocalImages {
    /// The program that checks the image `uri` in a container of its environment: it exits with 0
    /// if every library is there in its version and can be imported and the image's own check
    /// runs, and prints what is wrong if not.
    ///
    /// # Errors
    /// `UnknownImage`.
    pub fn check_script(&self, uri: &str) -> Result<String> {
        let catalogue = self.catalogue()?;
        let entry = catalogue.find(uri)?;
        Ok(format!(
            "PINS = {:?}\n{SCRIPT}\n{}",
            entry.info.libraries,
            entry.tag.check.as_deref().unwrap_or_default()
        ))
    }
}
