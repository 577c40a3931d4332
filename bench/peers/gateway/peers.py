"""The gateways that are compared, each as a bare proxy."""

import servers

# About 900 bytes, as a small list of a JSON API is.
BODY = '{"items":[' + ",".join(
    f'{{"id":{n},"subject":"parcel not delivered","state":"open","tenant":"acme"}}'
    for n in range(1, 13)) + ']}'


def make_haproxy(place, _):
    return servers.Server("haproxy", ["haproxy", "-db", "-f", place.render("haproxy.cfg")],
                  place, servers.first_line_of("haproxy", "-v"))


def make_caddy(place, _):
    environment = {"GOMAXPROCS": str(servers.WORKERS), "HOME": str(place.dir),
                   "XDG_CONFIG_HOME": str(place.dir), "XDG_DATA_HOME": str(place.dir)}
    return servers.Server("caddy", ["caddy", "run", "--adapter", "caddyfile", "--config",
                            place.render("Caddyfile")],
                  place, "caddy version: " + servers.first_line_of("caddy", "version"),
                  environment=environment)


MAKERS = {"nginx": servers.make_nginx, "haproxy": make_haproxy, "caddy": make_caddy,
          "seaworthy": servers.make_seaworthy}

# What a peer needs beyond the load and the upstream.
PACKAGES = {"haproxy": "haproxy", "caddy": "caddy"}
