"""Makes an invoice of order lines: as text, as HTML, and its sums to the cent."""
import logging
from decimal import ROUND_HALF_UP, Decimal

from tabulate import tabulate

log = logging.getLogger(__name__)
log.setLevel("INFO")
CENT = Decimal("0.01")


def handler(event, context):
    rows, net = [], Decimal(0)
    for line in event["lines"]:
        # Through text, so that 19.9 means 19.9 and not the nearest binary fraction.
        price, quantity = Decimal(str(line["price"])), Decimal(str(line["quantity"]))
        amount = (price * quantity).quantize(CENT, ROUND_HALF_UP)
        net += amount
        rows.append([line["what"], str(quantity), str(price.quantize(CENT)), str(amount)])
    tax = (net * Decimal(str(event.get("tax_percent", 0))) / 100).quantize(CENT, ROUND_HALF_UP)
    rows += [["Net", "", "", str(net)], ["Tax", "", "", str(tax)], ["Total", "", "", str(net + tax)]]
    headers = ["Item", "Quantity", "Price", event.get("currency", "EUR")]
    options = {"headers": headers, "disable_numparse": True, "colalign": ("left", "right", "right", "right")}
    log.info("invoice %s: %d lines", event["number"], len(event["lines"]))
    return {
        "number": event["number"],
        "net": net,
        "tax": tax,
        "total": net + tax,
        "text": tabulate(rows, tablefmt="simple", **options),
        "html": tabulate(rows, tablefmt="html", **options),
    }
