//! `mmhost train --dev`: plugins that change while the run goes on are checked beside it, and swapped in between two steps. A bad one is refused,
//! and the old one stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mmhost_plugins::check::{Level, check};
use mmhost_plugins::lock::Lock;
use mmhost_plugins::manifest::{MANIFEST, Manifest};
use mmhost_plugins::{PluginHost, PluginInfo, Plugins};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::ui::Ui;

/// Watches the plugins of a run.
pub struct Workbench {
    ui: Ui,
    host: Arc<PluginHost>,
    cache: PathBuf,
    watched: Vec<Watched>,
    checking: Option<(String, JoinHandle<Result<Plugins, String>>)>,
}

struct Watched {
    name: String,
    folder: PathBuf,
    /// What the run sets of its configuration.
    config: Option<serde_json::Value>,
    stamp: Stamp,
}

/// What tells that a plugin has changed.
#[derive(PartialEq)]
struct Stamp {
    /// When manifest and component were last written, and how long they are.
    files: [Option<(SystemTime, u64)>; 2],
    /// A build writes the component first and then pins it: only then is it whole.
    pinned: Option<String>,
}

impl Workbench {
    /// Watches these plugins from now on. `host` loaded them, `cache` keeps compiled components, `config` is what the run sets of their
    /// configuration.
    pub fn new<'a>(
        ui: Ui,
        host: Arc<PluginHost>,
        cache: PathBuf,
        config: &BTreeMap<String, serde_json::Value>,
        plugins: impl Iterator<Item = &'a PluginInfo>,
    ) -> Self {
        let watch = |info: &PluginInfo| Watched {
            name: info.name.clone(),
            stamp: stamp(&info.name, &info.folder),
            folder: info.folder.clone(),
            config: config.get(&info.name).cloned(),
        };
        Self { ui, host, cache, watched: plugins.map(watch).collect(), checking: None }
    }

    /// Between two steps: what changed and has been found good since. What has just changed is checked meanwhile.
    pub async fn changed(&mut self) -> Option<Plugins> {
        if let Some((name, job)) = self.checking.take_if(|(_, job)| job.is_finished()) {
            match job.await {
                Ok(Ok(plugins)) => return Some(plugins),
                Ok(Err(why)) => self.ui.say(format!("{name} has changed, but is not swapped in; the old one stays. {why}")),
                Err(died) => self.ui.say(format!("{name} has changed, but its check died; the old one stays: {died}")),
            }
        }
        if self.checking.is_none() {
            self.begin_check();
        }
        None
    }

    fn begin_check(&mut self) {
        let changed = self.watched.iter_mut().find_map(|watched| {
            let before = std::mem::replace(&mut watched.stamp, stamp(&watched.name, &watched.folder));
            (before != watched.stamp).then_some(&*watched)
        });
        let Some(Watched { name, folder, config, .. }) = changed else { return };
        self.ui.say(format!("{name} has changed; it is being checked"));
        let (host, cache, folder, config) = (self.host.clone(), self.cache.clone(), folder.clone(), config.clone());
        let handle = Handle::current();
        let job = tokio::task::spawn_blocking(move || {
            let report = handle.block_on(check(&folder, cache, config)).map_err(|error| error.to_string())?;
            let errors: Vec<String> = report.findings.iter().filter(|f| f.level == Level::Error).map(ToString::to_string).collect();
            match errors.is_empty() {
                true => host.load_dir(&folder).map_err(|error| error.to_string()),
                false => Err(format!("`mmhost plugin check {}` finds:\n{}", folder.display(), errors.join("\n"))),
            }
        });
        self.checking = Some((name.clone(), job));
    }
}

fn stamp(name: &str, folder: &Path) -> Stamp {
    let component = Manifest::read(folder).map(|manifest| manifest.component_path(folder)).unwrap_or_default();
    let files = [folder.join(MANIFEST), component].map(|file| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    });
    let pinned = Lock::read(folder.parent().unwrap_or(folder)).ok().and_then(|mut lock| lock.plugins.remove(name));
    Stamp { files, pinned: pinned.map(|pin| pin.component) }
}
