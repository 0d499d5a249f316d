//! Tool calls answered from a recording.

use crate::tools::{About, Failed, Played, Tool};
use mmhost_plugins::tape::{Ask, Door, Tape};
use mmhost_plugins::{CallCost, PluginError, ResultPart, ToolInput};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A tool with a recording before it. Failures and times are on record too: a replay gives the same episodes, byte for byte.
pub fn taped(tape: &Arc<Tape>, tool: Arc<dyn Tool>) -> Arc<dyn Tool> {
    Arc::new(Taped { tape: tape.clone(), tool })
}

struct Taped {
    tape: Arc<Tape>,
    tool: Arc<dyn Tool>,
}

#[async_trait::async_trait]
impl Tool for Taped {
    fn about(&self) -> About<'_> {
        self.tool.about()
    }

    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
        self.tool.call(input).await
    }

    async fn play(&self, input: &ToolInput) -> Played {
        let asked = format!("{:?} (question {:?})", input.argument, input.question);
        let images: Vec<_> = input.images.iter().map(|image| Sha256::digest(&image.bytes)).collect();
        // Everything that an answer may depend on, since a call runs in a fresh instance.
        let About { spec, plugin, digest, configuration, .. } = self.about();
        let texts = [digest, configuration, &input.argument, &input.question];
        let mut parts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        parts.extend(images.iter().map(|digest| digest.as_slice()));
        let ask = Ask::new(Door::Tool, &spec.name, asked, &parts).by(plugin);
        let played = self.tape.answer(ask, |played: &Played| played.result.is_err(), self.tool.play(input)).await;
        match played {
            Ok(played) => played,
            Err(fault) => Played { result: Err(Failed { told: "it is not on record".into(), fault }), elapsed_ms: 0.0 },
        }
    }
}
