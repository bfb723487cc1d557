#!/bin/sh
# Writes what instances cost on demand in regions of AWS, as `prices` of [aws]
# reads it: a header, then one price a line.
#
#   docs/prices.sh eu-west-1 eu-central-1 > prices.csv
#
# It asks AWS's price list by the AWS command line (of any version) and reads the
# answer with jq. Whoever runs it must be allowed `pricing:GetProducts`; windlass
# itself needs no such right. Prices are those of Linux on shared hardware, in US
# dollars and without any discount; the regions of China, priced otherwise, are
# not in this list.
set -eu
if [ $# -eq 0 ]; then
    echo "usage: $0 REGION... > prices.csv" >&2
    exit 2
fi
list=$(mktemp)
trap 'rm -f "$list"' EXIT

echo region,instance_type,usd_per_hour
for region; do
    # The price list answers in a few regions only, for all of them.
    aws pricing get-products --region us-east-1 --output json \
        --service-code AmazonEC2 --format-version aws_v1 --filters \
        "Type=TERM_MATCH,Field=regionCode,Value=$region" \
        Type=TERM_MATCH,Field=operatingSystem,Value=Linux \
        Type=TERM_MATCH,Field=tenancy,Value=Shared \
        Type=TERM_MATCH,Field=preInstalledSw,Value=NA \
        Type=TERM_MATCH,Field=capacitystatus,Value=Used >"$list"
    # Each product is a text that holds JSON. Where a type has several prices,
    # the dearest counts, so that money is never undercounted; digits behind the
    # sixth, a millionth of a dollar, are rounded up.
    jq -er '
        [ .PriceList[] | fromjson
          | .product.attributes as $it
          | select(($it.marketoption // "OnDemand") == "OnDemand")
          | .terms.OnDemand // {} | .[].priceDimensions[]
          | select(.unit == "Hrs") | .pricePerUnit.USD // "0"
          | select(tonumber > 0)
          | if test("^[0-9]+([.][0-9]{1,6}0*)?$") then .
            else tonumber * 1000000 | ceil / 1000000 | tostring end
          | { region: $it.regionCode, type: $it.instanceType, usd: . } ]
        | if . == [] then error("no prices") else . end
        | group_by(.type)[] | max_by(.usd | tonumber)
        | [.region, .type, .usd] | join(",")
    ' "$list" || {
        echo "$0: AWS lists no prices of $region; is that a region, such as eu-west-1?" >&2
        exit 1
    }
done
