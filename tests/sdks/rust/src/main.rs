//! A function's life through the AWS SDK for Rust.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::client::Waiters;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::get_function::GetFunctionError;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::operation::update_alias::UpdateAliasError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Environment, FunctionCode, InvocationType, InvokeWithResponseStreamResponseEvent, LogType,
    Runtime, State,
};
use base64::Engine as _;
use serde_json::{Value, json};

type Any = Box<dyn std::error::Error>;

const WAIT: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn zip(name: &str) -> Result<Blob, Any> {
    Ok(Blob::new(std::fs::read(variable(name))?))
}

fn ok(step: &str) {
    println!("ok: {step}");
}

fn result(answer: &InvokeOutput) -> Result<Value, Any> {
    Ok(serde_json::from_slice(answer.payload().expect("a payload").as_ref())?)
}

fn event(event: Value) -> Blob {
    Blob::new(event.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Any> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let client = Client::new(&config);
    let name = variable("SDK_FUNCTION");
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
    let invoke = || client.invoke().function_name(&name);

    let made = client
        .create_function()
        .function_name(&name)
        .runtime(Runtime::from(variable("SDK_RUNTIME").as_str()))
        .role(variable("SDK_ROLE"))
        .handler("app.handler")
        .code(FunctionCode::builder().zip_file(zip("SDK_ZIP_1")?).build())
        .timeout(10)
        .memory_size(256)
        .environment(Environment::builder().variables("COLOUR", "red").build())
        .send()
        .await?;
    assert_eq!(made.function_arn(), Some(arn.as_str()));
    assert_eq!((made.version(), made.memory_size()), (Some("$LATEST"), Some(256)));
    ok("create");

    client.wait_until_function_active_v2().function_name(&name).wait(WAIT).await?;
    let got = client.get_function().function_name(&name).send().await?;
    assert_eq!(got.configuration().and_then(|c| c.state()), Some(&State::Active));
    ok("wait-active");

    let answer = invoke()
        .payload(event(json!({"name": "Ada", "id": "sync-1"})))
        .log_type(LogType::Tail)
        .send()
        .await?;
    assert_eq!(result(&answer)?, json!({"hello": "Ada", "release": 1, "version": "$LATEST"}));
    assert_eq!((answer.status_code(), answer.executed_version()), (200, Some("$LATEST")));
    assert_eq!(answer.function_error(), None);
    let tail = base64::prelude::BASE64_STANDARD.decode(answer.log_result().expect("a log tail"))?;
    let tail = String::from_utf8(tail)?;
    assert!(tail.contains("seen sync-1") && tail.contains("REPORT RequestId:"), "{tail}");
    ok("invoke");

    let answer = invoke().payload(event(json!({"fail": "refused"}))).send().await?;
    assert_eq!((answer.status_code(), answer.function_error()), (200, Some("Unhandled")));
    let error = result(&answer)?;
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("ValueError"), &json!("refused"))
    );
    ok("function-error");

    let first = client.publish_version().function_name(&name).description("first").send().await?;
    assert_eq!((first.version(), first.code_sha256()), (Some("1"), made.code_sha256()));
    client
        .wait_until_published_version_active()
        .function_name(&name)
        .qualifier("1")
        .wait(WAIT)
        .await?;
    ok("publish");

    let alias = client
        .create_alias()
        .function_name(&name)
        .name("live")
        .function_version("1")
        .send()
        .await?;
    assert_eq!(alias.alias_arn(), Some(format!("{arn}:live").as_str()));
    assert_eq!(alias.function_version(), Some("1"));
    ok("alias");

    let answer = invoke().qualifier("live").payload(event(json!({"name": "Ada"}))).send().await?;
    assert_eq!(answer.executed_version(), Some("1"));
    assert_eq!(result(&answer)?, json!({"hello": "Ada", "release": 1, "version": "1"}));
    ok("invoke-alias");

    let answer = invoke()
        .invocation_type(InvocationType::Event)
        .payload(event(json!({"name": "Ada", "id": "async-1"})))
        .send()
        .await?;
    assert_eq!(answer.status_code(), 202);
    assert!(answer.payload().is_none_or(|p| p.as_ref().is_empty()));
    ok("event");

    let updated = client
        .update_function_code()
        .function_name(&name)
        .zip_file(zip("SDK_ZIP_2")?)
        .send()
        .await?;
    assert_ne!(updated.code_sha256(), made.code_sha256());
    client.wait_until_function_updated_v2().function_name(&name).wait(WAIT).await?;
    let answer = invoke().payload(event(json!({"name": "Ada"}))).send().await?;
    assert_eq!(result(&answer)?["release"], 2);
    ok("update-code");

    let second = client
        .publish_version()
        .function_name(&name)
        .set_code_sha256(updated.code_sha256().map(String::from))
        .send()
        .await?;
    assert_eq!(second.version(), Some("2"));
    client
        .wait_until_published_version_active()
        .function_name(&name)
        .qualifier("2")
        .wait(WAIT)
        .await?;
    ok("publish-again");

    let before = alias.revision_id().expect("a revision");
    let update = || client.update_alias().function_name(&name).name("live").revision_id(before);
    let moved = update().function_version("2").send().await?;
    assert_ne!(moved.revision_id(), Some(before));
    let answer = invoke().qualifier("live").payload(event(json!({"name": "Ada"}))).send().await?;
    assert_eq!((answer.executed_version(), &result(&answer)?["release"]), (Some("2"), &json!(2)));
    match update().function_version("1").send().await.map_err(SdkError::into_service_error) {
        Err(UpdateAliasError::PreconditionFailedException(_)) => {}
        other => panic!("a stale revision: {other:?}"),
    }
    ok("update-alias");

    let mut versions = Vec::new();
    let mut pages = client
        .list_versions_by_function()
        .function_name(&name)
        .into_paginator()
        .page_size(1)
        .items()
        .send();
    while let Some(version) = pages.next().await {
        versions.push(version?.version().unwrap_or_default().to_owned());
    }
    assert_eq!(versions, ["$LATEST", "1", "2"]);
    ok("list-versions");

    let mut stream = client
        .invoke_with_response_stream()
        .function_name(&name)
        .payload(event(json!({"name": "Ada"})))
        .send()
        .await?
        .event_stream;
    let (mut body, mut complete) = (Vec::new(), None);
    while let Some(next) = stream.recv().await? {
        match next {
            InvokeWithResponseStreamResponseEvent::PayloadChunk(chunk) => {
                body.extend_from_slice(chunk.payload().expect("a chunk's payload").as_ref());
            }
            InvokeWithResponseStreamResponseEvent::InvokeComplete(end) => complete = Some(end),
            other => panic!("an unknown event: {other:?}"),
        }
    }
    assert_eq!(serde_json::from_slice::<Value>(&body)?["hello"], "Ada");
    assert_eq!(complete.expect("the end of the stream").error_code(), None);
    ok("stream");

    let missing = client.get_function().function_name(format!("{name}-missing")).send().await;
    match missing.map_err(SdkError::into_service_error) {
        Err(GetFunctionError::ResourceNotFoundException(error)) => {
            let text = error.message().unwrap_or_default();
            assert!(text.contains(&format!("Function not found: {arn}-missing")), "{text}");
        }
        other => panic!("a missing function: {other:?}"),
    }
    ok("not-found");

    client.delete_alias().function_name(&name).name("live").send().await?;
    client.delete_function().function_name(&name).send().await?;
    let gone = client.get_function().function_name(&name).send().await;
    assert!(
        gone.map_err(SdkError::into_service_error)
            .is_err_and(|e| e.is_resource_not_found_exception())
    );
    ok("delete");
    Ok(())
}
