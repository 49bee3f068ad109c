//! AWS's own Rust client, unmodified, as a `provided` function.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    if let Some(message) = event["fail"].as_str() {
        return Err(message.into());
    }
    Ok(json!({
        "hello": event["name"],
        "client": "rust",
        "arn": context.invoked_function_arn,
        "request_id": context.request_id,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}
