//! The fence before the API server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Starts a server that answers every request, and counts the bytes that it receives.
fn start_server(received: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let received = received.clone();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    received.fetch_add(length, Ordering::SeqCst);
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
    url
}

/// The connection is open already, so nothing but the fence keeps the request back.
#[tokio::test]
async fn writes_nothing_after_term() {
    let (leads, received) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let config = Config::new(start_server(received.clone()).parse().unwrap());
    let fence = {
        let leads = leads.clone();
        Fence::new(move || leads.load(Ordering::SeqCst))
    };
    let (client, _) = open(config, fence).unwrap();
    let request = || Request::get("/").body(Vec::new()).unwrap();
    client.request_text(request()).await.unwrap();
    let before = received.load(Ordering::SeqCst);
    assert!(before > 0);

    leads.store(false, Ordering::SeqCst);
    let error = client.request_text(request()).await.unwrap_err();
    assert_eq!(describe(&error), "the API server can't be asked: this operator is no longer the leader");
    assert_eq!(received.load(Ordering::SeqCst), before);
}
