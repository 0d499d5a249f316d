//! Search tools.

use crate::bindings::exports::tool as contract;
use crate::bindings::tool::SearchToolPre;
use crate::doors::{CallState, images};
use crate::manifest::is_name;
use crate::runtime::Runtime;
use crate::types::{CallCost, CallForm, ImageBytes, ResultPart, ToolInput, ToolSpec};
use crate::{PluginError, PluginInfo, Result, ToolError};
use std::sync::Arc;
use tokio::time::timeout;
use wasmtime::component::InstancePre;

/// Media types that a tool may return.
const MEDIA_TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];

/// A loaded tool.
#[derive(Clone)]
pub struct ToolPlugin {
    runtime: Arc<Runtime>,
    info: Arc<PluginInfo>,
    spec: Arc<ToolSpec>,
    guest: SearchToolPre<CallState>,
}

impl ToolPlugin {
    /// Asks the component for its self-description and checks it.
    pub(crate) async fn load(runtime: Arc<Runtime>, info: Arc<PluginInfo>, instance: InstancePre<CallState>) -> Result<Self> {
        let guest = SearchToolPre::new(instance).map_err(|error| info.bad(format!("{error:#}"), "the world `search-tool`"))?;
        let (spec, _) = describe(&runtime, &info, &guest).await?;
        Ok(ToolPlugin { runtime, info, spec: Arc::new(spec), guest })
    }

    /// Asks the component once more for its self-description.
    ///
    /// # Errors
    /// What the plugin reports; else the limit or the rule of the contract that it broke.
    pub async fn describe(&self) -> Result<(ToolSpec, CallCost)> {
        describe(&self.runtime, &self.info, &self.guest).await
    }

    /// Its self-description.
    pub fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// Makes an instance and drops it.
    pub(crate) async fn instantiate(&self) -> Result<()> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), self.guest.instantiate_async(&mut call.store)).await;
        call.settle(outcome).map(drop)
    }

    /// Name, digest, configuration, grants and limits.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Digest of the component, hex SHA-256.
    pub fn digest(&self) -> &str {
        &self.info.digest
    }

    /// One call in a fresh instance, under the plugin's [`Policy`](crate::ledger::Policy). Waits while [`MAX_CONCURRENT_CALLS`](crate::MAX_CONCURRENT_CALLS) others run.
    ///
    /// # Errors
    /// [`PluginError::Tool`] for what the tool reports; else the limit or the rule of the contract that it broke.
    pub async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost)> {
        let once = || async {
            let (answer, cost) = self.answer(input).await?;
            answer.map(|parts| (parts, cost)).map_err(|error| PluginError::Tool { plugin: self.info.name.clone(), error })
        };
        self.info.account.run(once).await
    }

    /// The same, where an error that the tool reports is an answer with a cost too.
    pub(crate) async fn answer(&self, input: &ToolInput) -> Result<(std::result::Result<Vec<ResultPart>, ToolError>, CallCost)> {
        let mut call = self.runtime.open(&self.info, input.images.len()).await?;
        let outcome = timeout(call.limit(), async {
            let argument = argument(call.store.data_mut(), input)?;
            let instance = self.guest.instantiate_async(&mut call.store).await?;
            instance.mmhost_plugin0_1_0_tool().call_call(&mut call.store, &argument).await
        })
        .await;
        let answer = call.settle(outcome)?;
        Ok((self.taken(call.store.data_mut(), answer)?, call.cost()))
    }

    /// The answers to several inputs, one after the other in the same instance, as no run calls it.
    pub(crate) async fn answers_in_one_instance(
        &self,
        inputs: &[ToolInput],
    ) -> Result<Vec<std::result::Result<Vec<ResultPart>, ToolError>>> {
        let mut call = self.runtime.open(&self.info, inputs.iter().map(|input| input.images.len()).sum()).await?;
        let outcome = timeout(call.limit(), async {
            let instance = self.guest.instantiate_async(&mut call.store).await?;
            let mut answers = Vec::with_capacity(inputs.len());
            for input in inputs {
                let argument = argument(call.store.data_mut(), input)?;
                answers.push(instance.mmhost_plugin0_1_0_tool().call_call(&mut call.store, &argument).await?);
            }
            Ok(answers)
        })
        .await;
        let answers = call.settle(outcome)?;
        answers.into_iter().map(|answer| self.taken(call.store.data_mut(), answer)).collect()
    }

    /// Takes an answer over from the guest.
    fn taken(
        &self,
        state: &mut CallState,
        answer: std::result::Result<Vec<contract::Part>, contract::ToolError>,
    ) -> Result<std::result::Result<Vec<ResultPart>, ToolError>> {
        Ok(match answer {
            Ok(parts) => Ok(self.parts(state, parts)?),
            Err(contract::ToolError::Config(fault)) => return Err(self.info.refused(fault)),
            Err(contract::ToolError::BadArgument(what)) => Err(ToolError::BadArgument(what)),
            Err(contract::ToolError::MissingImage) => Err(ToolError::MissingImage),
            Err(contract::ToolError::NothingFound) => Err(ToolError::NothingFound),
            Err(contract::ToolError::Unavailable(what)) => Err(ToolError::Unavailable(what)),
            Err(contract::ToolError::Internal(what)) => Err(ToolError::Internal(what)),
        })
    }

    /// Takes the answer over from the guest, checking it against the limits.
    fn parts(&self, state: &mut CallState, answer: Vec<contract::Part>) -> Result<Vec<ResultPart>> {
        let (info, limits) = (&self.info, &self.info.limits);
        let (mut bytes, mut num_images) = (0u64, 0u64);
        let mut parts = Vec::with_capacity(answer.len());
        for part in answer {
            let part = match part {
                contract::Part::Text(text) => ResultPart::Text(text),
                contract::Part::Encoded(image) => ResultPart::Image(ImageBytes { media_type: image.media_type, bytes: image.bytes.into() }),
                contract::Part::Forwarded(handle) => {
                    let image = state.table.delete(handle).map_err(|error| info.bad(error.to_string(), "a live image handle"))?;
                    ResultPart::Image(image.0)
                }
            };
            match &part {
                ResultPart::Text(text) => bytes += text.len() as u64,
                ResultPart::Image(image) => {
                    bytes += image.bytes.len() as u64;
                    num_images += 1;
                    self.check_image(image)?;
                }
            }
            info.within("bytes", bytes, limits.output_bytes, "output_bytes")?;
            info.within("images", num_images, limits.output_images, "output_images")?;
            parts.push(part);
        }
        Ok(parts)
    }

    fn check_image(&self, image: &ImageBytes) -> Result<()> {
        if !MEDIA_TYPES.contains(&image.media_type.as_str()) {
            let found = format!("an image of media type {:?}", image.media_type);
            return Err(self.info.bad(found, MEDIA_TYPES.join(", ")));
        }
        let (width, height) = images::dimensions(&image.bytes)
            .map_err(|error| self.info.bad(format!("an undecodable image ({error})"), "an encoded image"))?;
        let pixels = u64::from(width) * u64::from(height);
        self.info.within("pixels", pixels, self.info.limits.output_pixels, "output_pixels")
    }
}

fn argument(state: &mut CallState, input: &ToolInput) -> wasmtime::Result<contract::CallInput> {
    Ok(contract::CallInput {
        argument: input.argument.clone(),
        question: input.question.clone(),
        images: input.images.iter().map(|image| state.lend(image)).collect::<wasmtime::Result<_>>()?,
    })
}

async fn describe(runtime: &Runtime, info: &Arc<PluginInfo>, guest: &SearchToolPre<CallState>) -> Result<(ToolSpec, CallCost)> {
    let mut call = runtime.open_description(info).await?;
    let outcome = timeout(call.limit(), async {
        let instance = guest.instantiate_async(&mut call.store).await?;
        instance.mmhost_plugin0_1_0_tool().call_describe(&mut call.store).await
    })
    .await;
    let description = call.settle(outcome)?.map_err(|error| info.refused(error))?;
    Ok((spec(info, description)?, call.cost()))
}

/// Checks a self-description.
fn spec(info: &PluginInfo, description: contract::Description) -> Result<ToolSpec> {
    let contract::Description { name, description, call, max_calls, instruction, needs_image } = description;
    if !is_name(&name) {
        return Err(info.bad(format!("the tool name {name:?}"), "lower-case letters, digits, `-` and `_`, beginning with a letter"));
    }
    info.line("the description", &description)?;
    info.plain("the instruction", &instruction)?;
    if max_calls == 0 {
        return Err(info.bad("max-calls 0", "at least 1"));
    }
    let call = match call {
        contract::CallForm::Literal(text) => {
            info.line("the literal call", &text)?;
            CallForm::Literal(text)
        }
        contract::CallForm::Tag(tag) => {
            if !is_name(&tag) {
                return Err(info.bad(format!("the tag {tag:?}"), "a tag's name: lower-case letters, digits, `-` and `_`"));
            }
            CallForm::Tag(tag)
        }
        contract::CallForm::Json(schema) => {
            let parsed: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&schema).ok();
            if parsed.is_none() {
                return Err(info.bad("a schema of the arguments that is no JSON object", "a JSON schema"));
            }
            info.plain("the schema of the arguments", &schema)?;
            CallForm::Json(schema)
        }
    };
    Ok(ToolSpec { name, description, call, max_calls, instruction, needs_image })
}
