//! Serves the router over fakes of what touches the machine, to try clients against it:
//! `cargo run -p luthier-server --example resources -- 127.0.0.1:8580`. The token is `test-token`.

#![expect(clippy::unwrap_used, reason = "an example stops at the first fault")]

use luthier_testkit::World;

#[tokio::main]
async fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8580".to_owned());
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let router = luthier_server::router(world.app.clone());
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await
        .unwrap();
}
