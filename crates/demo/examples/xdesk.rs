use seaworthy_demo::{Clients, ClientsConfig, Service, ServiceConfig};
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args[1].as_str() {
        "service" => {
            let service = Service::start(ServiceConfig {
                addr: "127.0.0.1:3100".parse().unwrap(),
                ..Default::default()
            })
            .await
            .unwrap();
            println!("{}", service.addr());
            std::future::pending::<()>().await;
        }
        _ => {
            let clients = Clients::start(ClientsConfig {
                gateway: "127.0.0.1:8180".parse().unwrap(),
                seed: 7,
                rate: 100.0,
            })
            .unwrap();
            clients.sent(args[2].parse().unwrap()).await;
            println!("{:?}", clients.stop().await);
        }
    }
}
