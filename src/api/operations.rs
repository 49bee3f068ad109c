//! Which part of Kennel does which operation of the model, and who may ask for it.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::door::not_built;
use super::{Caller, Input, OperationFuture, Operations, Output, Payload, StreamEvent};
use crate::control::names::FunctionName;
use crate::control::policy::{self, AccessRequest, Principal};
use crate::control::records::Target;
use crate::control::{Control, ControlError, ErrorKind};
use crate::invoke::queue::{AsyncEvent, AsyncQueue};
use crate::invoke::service::{InvokeRequest, Invoked, Run};
use crate::pool::unix_ms;

/// Signs an address: path, and the address that the caller used.
pub type Presign = Box<dyn Fn(&str, &str) -> String + Send + Sync>;

/// The operations of the AWS Lambda API.
pub struct Lambda {
    pub control: Arc<Control>,
    pub run: Arc<dyn Run>,
    pub queue: Arc<AsyncQueue>,
    /// For downloads of code.
    pub presign: Presign,
}

impl std::fmt::Debug for Lambda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lambda").finish_non_exhaustive()
    }
}

/// `Control`'s operations by their names in the model.
macro_rules! control_operations {
    ($self:ident, $operation:ident, $members:ident, { $($name:literal => $method:ident),* $(,)? }) => {
        match $operation {
            $($name => $self.control.$method($members).await,)*
            _ => Err(not_built($operation)),
        }
    };
}

impl Operations for Lambda {
    fn call<'a>(&'a self, operation: &'a str, input: Input) -> OperationFuture<'a> {
        Box::pin(async move {
            match operation {
                "Invoke" => self.invoke(input).await,
                "InvokeAsync" => self.invoke_async(input).await,
                "InvokeWithResponseStream" => self.invoke_with_response_stream(input).await,
                // Apart, since all of them together are a large future, which an invocation would carry along.
                _ => Box::pin(self.control(operation, input)).await,
            }
        })
    }
}

fn unauthorized(arn: &str, operation: &str) -> ControlError {
    let text = format!(
        "User: {arn} is not authorized to perform: lambda:{operation} because no identity-based policy allows the lambda:{operation} action"
    );
    ControlError::new(ErrorKind::AccessDenied, text)
}

impl Lambda {
    async fn control(&self, operation: &str, input: Input) -> Result<Output, ControlError> {
        if let Caller::Principal { arn } = &input.caller {
            return Err(unauthorized(arn, operation));
        }
        let base_url = input.base_url;
        let mut members = self.control_members(operation, input.members).await?;
        for value in members.values_mut() {
            self.sign_locations(value, &base_url);
        }
        Ok(Output::members(members))
    }

    async fn control_members(
        &self,
        operation: &str,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        control_operations!(self, operation, members, {
            "AddLayerVersionPermission" => add_layer_version_permission,
            "AddPermission" => add_permission,
            "CreateAlias" => create_alias,
            "CreateCodeSigningConfig" => create_code_signing_config,
            "CreateEventSourceMapping" => create_event_source_mapping,
            "CreateFunction" => create_function,
            "CreateFunctionUrlConfig" => create_function_url_config,
            "DeleteAlias" => delete_alias,
            "DeleteCodeSigningConfig" => delete_code_signing_config,
            "DeleteEventSourceMapping" => delete_event_source_mapping,
            "DeleteFunction" => delete_function,
            "DeleteFunctionCodeSigningConfig" => delete_function_code_signing_config,
            "DeleteFunctionConcurrency" => delete_function_concurrency,
            "DeleteFunctionEventInvokeConfig" => delete_function_event_invoke_config,
            "DeleteFunctionUrlConfig" => delete_function_url_config,
            "DeleteLayerVersion" => delete_layer_version,
            "DeleteResourcePolicy" => delete_resource_policy,
            "GetResourcePolicy" => get_resource_policy,
            "PutResourcePolicy" => put_resource_policy,
            "DeleteProvisionedConcurrencyConfig" => delete_provisioned_concurrency_config,
            "GetAccountSettings" => get_account_settings,
            "GetAlias" => get_alias,
            "GetCodeSigningConfig" => get_code_signing_config,
            "GetEventSourceMapping" => get_event_source_mapping,
            "GetFunction" => get_function,
            "GetFunctionCodeSigningConfig" => get_function_code_signing_config,
            "GetFunctionConcurrency" => get_function_concurrency,
            "GetFunctionConfiguration" => get_function_configuration,
            "GetFunctionEventInvokeConfig" => get_function_event_invoke_config,
            "GetFunctionRecursionConfig" => get_function_recursion_config,
            "GetFunctionScalingConfig" => get_function_scaling_config,
            "GetFunctionUrlConfig" => get_function_url_config,
            "GetLayerVersion" => get_layer_version,
            "GetLayerVersionByArn" => get_layer_version_by_arn,
            "GetLayerVersionPolicy" => get_layer_version_policy,
            "GetPolicy" => get_policy,
            "GetProvisionedConcurrencyConfig" => get_provisioned_concurrency_config,
            "GetRuntimeManagementConfig" => get_runtime_management_config,
            "ListAliases" => list_aliases,
            "ListCodeSigningConfigs" => list_code_signing_configs,
            "ListEventSourceMappings" => list_event_source_mappings,
            "ListFunctionEventInvokeConfigs" => list_function_event_invoke_configs,
            "ListFunctionUrlConfigs" => list_function_url_configs,
            "ListFunctions" => list_functions,
            "ListFunctionsByCodeSigningConfig" => list_functions_by_code_signing_config,
            "ListLayerVersions" => list_layer_versions,
            "ListLayers" => list_layers,
            "ListProvisionedConcurrencyConfigs" => list_provisioned_concurrency_configs,
            "ListTags" => list_tags,
            "ListVersionsByFunction" => list_versions_by_function,
            "PublishLayerVersion" => publish_layer_version,
            "PublishVersion" => publish_version,
            "PutFunctionCodeSigningConfig" => put_function_code_signing_config,
            "PutFunctionConcurrency" => put_function_concurrency,
            "PutFunctionEventInvokeConfig" => put_function_event_invoke_config,
            "PutFunctionRecursionConfig" => put_function_recursion_config,
            "PutFunctionScalingConfig" => put_function_scaling_config,
            "PutProvisionedConcurrencyConfig" => put_provisioned_concurrency_config,
            "PutRuntimeManagementConfig" => put_runtime_management_config,
            "RemoveLayerVersionPermission" => remove_layer_version_permission,
            "RemovePermission" => remove_permission,
            "TagResource" => tag_resource,
            "UntagResource" => untag_resource,
            "UpdateAlias" => update_alias,
            "UpdateCodeSigningConfig" => update_code_signing_config,
            "UpdateEventSourceMapping" => update_event_source_mapping,
            "UpdateFunctionCode" => update_function_code,
            "UpdateFunctionConfiguration" => update_function_configuration,
            "UpdateFunctionEventInvokeConfig" => update_function_event_invoke_config,
            "UpdateFunctionUrlConfig" => update_function_url_config,
        })
    }

    /// `kennel:code/HEX` becomes an address that can be fetched for a while without a key.
    fn sign_locations(&self, value: &mut Value, base_url: &str) {
        if let Value::Object(object) = value
            && let Some(Value::String(location)) = object.get_mut("Location")
            && let Some(hex) = location.strip_prefix("kennel:code/")
        {
            *location = (self.presign)(&format!("/_kennel/code/{hex}"), base_url);
        }
    }

    /// Resolves what is invoked, and holds a caller that is not the operator to the resource policy.
    async fn authorized_target(
        &self,
        input: &Input,
    ) -> Result<(FunctionName, Target), ControlError> {
        let text = |key: &str| input.members.get(key).and_then(Value::as_str);
        let name = text("FunctionName").unwrap_or_default();
        let name = FunctionName::resolve(name, text("Qualifier"), &self.control.settings)?;
        let target = self.control.target(&name.name, name.qualifier.as_deref()).await?;
        if let Caller::Principal { arn } = &input.caller {
            let policy = target.snapshot.policies.get(&target.qualifier);
            let action = "lambda:InvokeFunction";
            let request = AccessRequest::new(Principal::Aws(arn), action, &target.invoked_arn);
            if !policy::allows(policy, &request) {
                let text = format!(
                    "User: {arn} is not authorized to perform: lambda:InvokeFunction on resource: {} because no resource-based policy allows the lambda:InvokeFunction action",
                    target.invoked_arn
                );
                return Err(ControlError::new(ErrorKind::AccessDenied, text));
            }
        }
        Ok((name, target))
    }

    async fn invoke(&self, input: Input) -> Result<Output, ControlError> {
        let text = |key: &str| input.members.get(key).and_then(Value::as_str);
        let kind = text("InvocationType").unwrap_or("RequestResponse");
        let (name, _) = self.authorized_target(&input).await?;
        match kind {
            "DryRun" => Ok(Output { status: Some(204), ..empty() }),
            "Event" => {
                self.enqueue(name, input).await?;
                Ok(Output { status: Some(202), ..empty() })
            }
            _ => {
                let tail = text("LogType") == Some("Tail");
                let invoked = self.run.run(invoke_request(name, input, None)?).await?;
                let mut members = Map::new();
                members.insert("ExecutedVersion".into(), invoked.executed_version.into());
                if tail {
                    members.insert("LogResult".into(), STANDARD.encode(&invoked.log_tail).into());
                }
                let body = match invoked.result {
                    Ok(body) => body,
                    Err(error) => {
                        members.insert("FunctionError".into(), "Unhandled".into());
                        error.body
                    }
                };
                Ok(Output { status: None, members, payload: Payload::Bytes(body) })
            }
        }
    }

    async fn enqueue(&self, name: FunctionName, input: Input) -> Result<(), ControlError> {
        let request = invoke_request(name, input, None)?;
        let event = AsyncEvent {
            client_context: request.client_context,
            trace_id: request.trace_id,
            ..AsyncEvent::new(
                request.request_id,
                request.function,
                request.qualifier,
                request.payload,
            )
        };
        self.queue.enqueue(event).await
    }

    async fn invoke_async(&self, input: Input) -> Result<Output, ControlError> {
        let (name, _) = self.authorized_target(&input).await?;
        self.enqueue(name, input).await?;
        Ok(Output { status: Some(202), ..Output::members(Map::new()) })
    }

    async fn invoke_with_response_stream(&self, input: Input) -> Result<Output, ControlError> {
        let text = |key: &str| input.members.get(key).and_then(Value::as_str);
        let tail = text("LogType") == Some("Tail");
        let dry = text("InvocationType") == Some("DryRun");
        let (name, target) = self.authorized_target(&input).await?;
        if dry {
            return Ok(Output { status: Some(204), ..empty() });
        }
        let mut members = Map::new();
        members.insert("ExecutedVersion".into(), target.version.version.clone().into());
        let content_type = "application/vnd.amazon.eventstream";
        members.insert("ResponseStreamContentType".into(), content_type.into());
        let (events, receiver) = mpsc::channel(STREAM_QUEUE);
        let (chunks, mut streamed) = mpsc::channel::<Bytes>(STREAM_QUEUE);
        // The version that the head names is the one that runs.
        let mut request = invoke_request(name, input, Some(chunks))?;
        request.qualifier = Some(pinned(&target));
        let run = self.run.clone();
        // A refusal before the first byte is an ordinary error; so the head waits for the first sign of the function.
        let mut running = tokio::spawn(async move { run.run(request).await });
        let first = tokio::select! {
            biased;
            // Their end says nothing yet: what came of the invocation does.
            Some(chunk) = streamed.recv() => Some(chunk),
            done = &mut running => {
                let invoked = joined(done)?;
                while let Ok(chunk) = streamed.try_recv() {
                    let _ = events.try_send(StreamEvent::PayloadChunk(chunk));
                }
                tokio::spawn(finish_stream(events, invoked, tail));
                return Ok(Output { status: None, members, payload: Payload::Events(receiver) });
            }
        };
        tokio::spawn(async move {
            let mut next = first;
            while let Some(chunk) = next {
                // A caller that is gone does not end the function; its bytes go nowhere.
                let _ = events.send(StreamEvent::PayloadChunk(chunk)).await;
                next = streamed.recv().await;
            }
            match joined(running.await) {
                Ok(invoked) => finish_stream(events, invoked, tail).await,
                Err(error) => {
                    let end = StreamEvent::InvokeComplete {
                        error_code: Some("ServiceException".into()),
                        error_details: Some(error.message),
                        log_result: None,
                    };
                    let _ = events.send(end).await;
                }
            }
        });
        Ok(Output { status: None, members, payload: Payload::Events(receiver) })
    }
}

/// Events that wait for a caller that reads slowly; then the function waits.
const STREAM_QUEUE: usize = 16;

fn joined(
    done: Result<Result<Invoked, ControlError>, tokio::task::JoinError>,
) -> Result<Invoked, ControlError> {
    done.unwrap_or_else(|panic| Err(ControlError::internal(panic.to_string())))
}

/// The qualifier under which this very version runs: an alias might lead elsewhere the next time.
fn pinned(target: &Target) -> String {
    match target.snapshot.aliases.get(&target.qualifier) {
        Some(alias) if alias.weights.is_empty() => target.qualifier.clone(),
        Some(_) => target.version.version.clone(),
        None => target.qualifier.clone(),
    }
}

async fn finish_stream(events: mpsc::Sender<StreamEvent>, invoked: Invoked, tail: bool) {
    let (error_code, error_details) = match invoked.result {
        Ok(body) => {
            if !body.is_empty() {
                let _ = events.send(StreamEvent::PayloadChunk(body)).await;
            }
            (None, None)
        }
        Err(error) => {
            let details = String::from_utf8_lossy(&error.body).into_owned();
            (Some(error.error_type), Some(details))
        }
    };
    let log_result = tail.then(|| STANDARD.encode(&invoked.log_tail));
    let end = StreamEvent::InvokeComplete { error_code, error_details, log_result };
    let _ = events.send(end).await;
}

fn empty() -> Output {
    Output { status: None, members: Map::new(), payload: Payload::Bytes(Bytes::new()) }
}

fn invoke_request(
    name: FunctionName,
    mut input: Input,
    stream: Option<mpsc::Sender<Bytes>>,
) -> Result<InvokeRequest, ControlError> {
    let client_context = match input.members.remove("ClientContext") {
        Some(Value::String(text)) => Some(decode_client_context(&text)?),
        _ => None,
    };
    // No payload is an empty event to AWS as well.
    let payload = if input.payload.is_empty() { Bytes::from_static(b"{}") } else { input.payload };
    Ok(InvokeRequest {
        function: name.name,
        qualifier: name.qualifier,
        request_id: input.request_id,
        payload,
        client_context,
        trace_id: input.trace_id.map(|t| traced(&t)),
        stream,
        durable_log: false,
    })
}

/// A trace header as the function sees it: with the parts that it lacks.
fn traced(given: &str) -> String {
    if given.contains("Root=") {
        return given.to_owned();
    }
    let seconds = unix_ms(SystemTime::now()) / 1000;
    format!("Root=1-{seconds:08x}-{};{given}", &uuid::Uuid::new_v4().simple().to_string()[..24])
}

fn decode_client_context(text: &str) -> Result<String, ControlError> {
    let invalid = || {
        let text = "Client context must be a valid Base64-encoded JSON object.";
        ControlError::new(ErrorKind::InvalidRequestContent, text)
    };
    let bytes = STANDARD.decode(text).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    serde_json::from_str::<IgnoredAny>(&text).map_err(|_| invalid())?;
    Ok(text)
}
