//! Carries a session's invocations to a `go1.x` program that listens for net/rpc, as if it polled the Runtime API.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::go_rpc::{Client, Deadline, GoRpcError, InvokeRequest};
use super::session::{Answer, Session};

/// The session's name for this door, beside real connections' numbers.
const DOOR: u64 = 0;

/// Connects once the program listens, and serves until it is gone. A program that polls the Runtime API instead never
/// listens; then this waits for ever and harms nothing.
pub async fn serve(session: Arc<Session>, socket: OwnedFd, port: u16) {
    let Some(stream) = connect(socket, port).await else { return };
    let _ = stream.set_nodelay(true);
    let mut client = Client::new(stream);
    if client.ping().await.is_err() {
        return;
    }
    session.connected(DOOR);
    while client.is_usable() {
        let invocation = session.next(DOOR).await;
        let request = InvokeRequest {
            payload: &invocation.payload,
            request_id: &invocation.request_id,
            x_amzn_trace_id: &invocation.trace_id,
            deadline: Deadline::from_unix_ms(invocation.deadline_ms),
            invoked_function_arn: &invocation.function_arn,
            client_context: invocation.client_context.as_deref().unwrap_or_default().as_bytes(),
            ..InvokeRequest::default()
        };
        let id = &invocation.request_id;
        let answer = match client.invoke(&request).await {
            Ok(response) => match response.error {
                None => Answer::Response(response.payload.into()),
                Some(error) => {
                    if error.should_exit {
                        session.retire();
                    }
                    Answer::Error {
                        error_type: error.error_type.clone(),
                        body: serde_json::to_vec(&error).unwrap_or_default().into(),
                    }
                }
            },
            Err(GoRpcError::ResponseTooLarge { .. }) => Session::too_large_answer(),
            // The program is gone or talks nonsense: its end, or the deadline, ends the invocation.
            Err(_) => return,
        };
        if session.begin_answer(id).is_err() || session.finish_answer(id, answer).await.is_err() {
            return;
        }
    }
}

/// The socket belongs to the sandbox's network namespace, so 127.0.0.1 is the sandbox's own.
async fn connect(socket: OwnedFd, port: u16) -> Option<TcpStream> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut pause = Duration::from_millis(1);
    loop {
        // A refused socket may connect again on Linux; each try has its own descriptor of the same one.
        let attempt = socket.try_clone().ok()?;
        let stream = std::net::TcpStream::from(attempt);
        stream.set_nonblocking(true).ok()?;
        match TcpSocket::from_std_stream(stream).connect(address).await {
            Ok(stream) => return Some(stream),
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}
