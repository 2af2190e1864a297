#!/bin/sh
# Builds the packages and tarballs of all architectures into dist/: see "make
# packages". The same sources, Go and VERSION make the same bytes: times are those of
# SOURCE_DATE_EPOCH, or of the last commit, and no path of this machine is in them.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
ARCHES=${ARCHES:-amd64 arm64}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
VERSION=${VERSION:-0.0.0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(git rev-parse --short=8 HEAD 2>/dev/null || echo unknown)}
export VERSION RELEASE="${RELEASE:-1}" MAINTAINER="${MAINTAINER:-lbcluster}"
export CGO_ENABLED=0
umask 022
packager=$(cd deploy/packages && $GO tool -n nfpm)

rm -rf dist
mkdir -p dist
common=dist/.common
mkdir -p $common/man $common/completion $common/doc/docs
$GO run -trimpath -tags docs ./cmd/lbcluster docs "$common"
# Debian wants manual pages compressed; -n leaves the time out.
gzip -9 -n $common/man/*
cp deploy/lbcluster.service deploy/lbcluster-realserver.service deploy/lbcluster.yaml $common/
cp README.md CHANGELOG.md LICENSE deploy/keepalived-pair.conf deploy/vip-for-nginx.conf $common/doc/
cp docs/* $common/doc/docs/
cp LICENSE $common/doc/copyright

for arch in $ARCHES; do
	export ARCH=$arch STAGE=dist/.stage
	mkdir -p "$STAGE"
	cp -r $common/. "$STAGE"
	GOOS=linux GOARCH=$arch $GO build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$STAGE/lbcluster" ./cmd/lbcluster
	find "$STAGE" -type f ! -name lbcluster -exec chmod 644 {} +
	find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	for format in deb rpm; do
		"$packager" package -f deploy/packages/nfpm.yaml -p $format -t dist
	done
	tar -C "$STAGE" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
		--transform "s,^\.,lbcluster-$VERSION," -cf - . | gzip -9 -n >"dist/lbcluster-$VERSION-linux-$arch.tar.gz"
	rm -rf "$STAGE"
done
rm -rf $common
(cd dist && sha256sum -- * >SHA256SUMS)
ls -l dist
