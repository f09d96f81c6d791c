//! Finds and reads the two files. Only here, and in `reload`, does this folder touch the disk.

use super::{
    Fault, Faults, Settings, Thresholds,
    check::{Origin, check_settings},
    decode::decode,
    environment::{Variable, overlay, variables},
    tree::{Body, MAX_BYTES, Node, Place},
};
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The folder that is looked into when none is named.
pub const DEFAULT_FOLDER: &str = "config";
/// Name of the settings file in its folder.
pub const SETTINGS_FILE: &str = "lastgood.yaml";

/// The settings, and where they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file they were read from; `None`: there is none, and the defaults hold.
    pub file: Option<PathBuf>,
    /// Where the thresholds lie: as in the settings, seen from the folder of the settings file.
    pub thresholds: PathBuf,
    /// Whether the user named the thresholds file, so that it must be there.
    pub thresholds_named: bool,
    /// What people should be told: which file was not there.
    pub notes: Vec<String>,
}

impl Settings {
    /// Reads the settings: defaults < file < `LASTGOOD_…` variables.
    ///
    /// `path` is a folder with `lastgood.yaml` in it, or the file itself; `None` is `config/`. A
    /// file that was not named may be absent, and then the defaults hold.
    ///
    /// # Errors
    /// Every fault of file and environment, or that the path that was named is not there.
    pub fn load(path: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Faults> {
        let Found { folder, file, may_be_absent } = find(path);
        let title = file.display().to_string();
        let mut notes = Vec::new();
        let text = match read_text(&file) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound && may_be_absent => {
                notes.push(format!("there is no {title}, so the default settings hold"));
                None
            }
            Err(e) => {
                return Err(Faults::one(title, format!("cannot read it: {e}"), "check the path given with --config"));
            }
        };
        let settings = Self::parse(&title, text.as_deref().unwrap_or_default(), env)?;
        let thresholds = folder.join(&settings.thresholds);
        let thresholds_named = settings.thresholds != Self::default().thresholds;
        Ok(Loaded { settings, file: text.is_some().then_some(file), thresholds, thresholds_named, notes })
    }

    /// Layers a text and variables over the defaults. Pure.
    ///
    /// # Errors
    /// Every fault of both.
    pub fn parse(file: &str, text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut tree = Node::parse(file, text, &mut faults).map_err(|fault| Faults(vec![fault]))?;
        if tree.is_empty() {
            tree = Node { at: Place { line: 1, column: 1 }, body: Body::Map(Vec::new()) };
        }
        let variables = variables(env, &mut faults);
        let from_file = tree.clone();
        let mut from_env = Node { at: Place::default(), body: Body::Map(Vec::new()) };
        if let Body::Map(_) = tree.body {
            // A file that is no mapping is told as that, not papered over by a variable.
            for v in &variables {
                let path: Vec<&str> = v.path.split('.').collect();
                overlay(&mut tree, &path, v.body.clone());
                overlay(&mut from_env, &path, v.body.clone());
            }
        }
        let decoded: Option<Self> = decode(file, &mut tree, &mut faults);
        blame_variables(&variables, &mut faults);
        if let Some(settings) = &decoded {
            check_settings(settings, &Origin { file, tree: &tree, variables: &variables }, &mut faults);
        }
        faults.into_result()?;
        layered([from_file, from_env])
            .map_err(|e| Faults::one(file, format!("cannot put the layers together: {e}"), ""))
    }
}

struct Found {
    folder: PathBuf,
    file: PathBuf,
    may_be_absent: bool,
}

fn find(path: Option<&Path>) -> Found {
    match path {
        Some(file) if !file.is_dir() => Found {
            folder: file.parent().unwrap_or(Path::new("")).to_owned(),
            file: file.to_owned(),
            may_be_absent: false,
        },
        folder => {
            let folder = folder.unwrap_or(Path::new(DEFAULT_FOLDER)).to_owned();
            Found { file: folder.join(SETTINGS_FILE), folder, may_be_absent: true }
        }
    }
}

/// The faults of the thresholds file that lies beside the settings, for when the settings cannot
/// say where it lies. None when there is none.
pub fn faults_of_thresholds_beside(path: Option<&Path>) -> Faults {
    let file = find(path).folder.join(Settings::default().thresholds);
    match read_text(&file) {
        Ok(text) => Thresholds::parse(&file.display().to_string(), &text).err().unwrap_or_default(),
        Err(_) => Faults::default(),
    }
}

/// A fault without a place came from the environment: name its variable.
fn blame_variables(variables: &[Variable], faults: &mut Faults) {
    for fault in faults.0.iter_mut().filter(|f| f.line == 0 && f.file != "environment") {
        let at_fault = |v: &&Variable| fault.message.strip_prefix(&v.path).is_some_and(|rest| rest.starts_with(':'));
        fault.file = variables.iter().find(at_fault).map_or_else(|| "environment".into(), |v| v.name.clone());
    }
}

/// Puts the layers over the defaults (those of serde) in this order. The file goes in as texts: read
/// by `config` itself, `1.10` would become 1.1 (stack.md, trap 18). Faults were told before, with
/// their places, which `config` does not know.
fn layered(layers: [Node; 2]) -> Result<Settings, config::ConfigError> {
    let builder = layers.into_iter().fold(config::Config::builder(), |b, tree| b.add_source(Layer(tree)));
    builder.build()?.try_deserialize()
}

#[derive(Debug, Clone)]
struct Layer(Node);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
        match config_value(&self.0).kind {
            config::ValueKind::Table(map) => Ok(map),
            _ => Ok(config::Map::new()),
        }
    }
}

fn config_value(node: &Node) -> config::Value {
    let kind = match &node.body {
        Body::Null => config::ValueKind::Nil,
        Body::Text(text) => config::ValueKind::String(text.clone()),
        Body::Seq(items) => config::ValueKind::Array(items.iter().map(config_value).collect()),
        Body::Map(entries) => {
            config::ValueKind::Table(entries.iter().map(|e| (e.key.clone(), config_value(&e.value))).collect())
        }
    };
    config::Value::new(None, kind)
}

impl Loaded {
    /// Reads the thresholds that belong to these settings; the text comes along for a reloader.
    ///
    /// # Errors
    /// Every fault of the file, or that it is not there although it was named.
    pub fn load_thresholds(&self) -> Result<(Thresholds, Option<String>), Faults> {
        let title = self.thresholds.display().to_string();
        match read_text(&self.thresholds) {
            Ok(text) => Thresholds::parse(&title, &text).map(|t| (t, Some(text))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.thresholds_named => {
                Ok((Thresholds::default(), None))
            }
            Err(e) => {
                Err(Faults::one(title, format!("cannot read it: {e}"), "check the key \"thresholds\" of lastgood.yaml"))
            }
        }
    }
}

/// Reads a text file that is not absurdly long. Refuses what is not a file: a pipe would never end.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|e| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()),
        )
    })
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
