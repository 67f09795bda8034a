"""Which kinds of words an expression uses: what a thing is like, where in the image it is, how it relates to another.

The kinds follow the parts of an expression in ReferItGame (Kazemzadeh et al., EMNLP 2014). `attribute` is colour, size
and what they call generic; `position` is absolute location; `relation` is location relative to another thing, here also
what is done with it. Ordinals and extremes ("second from left", "topmost", "closest to us") are positions; "larger" is
an attribute.

Words are looked up, not understood. Lists and patterns were made from texts of RefCOCO and from the grammar of
`scenes`. So spelling mistakes, other languages and rare words are missed, and "in" ("man in boat", "man in red") is no
relation here.
"""

import re

KINDS = ("attribute", "position", "relation")

_ATTRIBUTES = """
red orange yellow green blue purple pink brown black white gray grey tan beige gold golden silver blond blonde teal
navy maroon violet turquoise reddish greenish bluish blk colored coloured colorful dark darker darkest light lighter
lightest bright brighter brightest clear pale shiny big bigger biggest large larger largest small smaller smallest
little tiny huge giant tall taller tallest short shorter shortest long longer longest wide wider thin thinner thick
thicker fat fatter skinny full empty half whole striped stripes stripe stripped plaid checkered checked spotted
dotted polka plain floral patterned wooden wood metal leather plastic round curly bald bare shirtless old older
oldest young younger youngest adult male female asian baby sitting seated standing walking running jumping kneeling
crouching squatting bending bent leaning laying lying sleeping smiling laughing talking facing looking staring
turned crossed reading wearing dressed open closed blurry blurred blurriest cut partial partially hidden visible
broken folded stuffed wet dirty clean
"""
_POSITIONS = """
left right top bottom middle center centre central mid corner upper lower front back rear background foreground
leftmost rightmost topmost bottommost uppermost lowermost leftest rightest lefthand righthand backmost frontmost lft
rt frt eft far farther farthest further furthest close closer closest near nearer nearest higher highest lowest
first second third fourth fifth sixth last 1st 2nd 3rd 4th 5th 6th end edge row oclock
"""

ATTRIBUTES, POSITIONS = frozenset(_ATTRIBUTES.split()), frozenset(_POSITIONS.split())

_COLOUR = "red|orange|yellow|green|blue|purple|pink|brown|black|white|gray|grey|tan|striped|plaid"
_WORN = (
    "shirts?|tshirt|tops?|tank|polo|jersey|hoodie|hoody|sweater|jacket|coat|vest|suit|dress|skirt|apron|uniform|clothes|"
    "clothing|outfit|pants|jeans|shorts|hat|cap|helmet|hood|headband|scarf|glasses|sunglasses|goggles|gloves?|shoes?|boots?|"
    "socks?|hair|beard|mustache|ponytail|head|face|arms?|hands?|legs?|eyes?|stripes?|spots?|sleeves?|number"
)
_PLACE = "left|right|top|bottom|front|back|middle|center|centre|upper|lower|far"
_HERE = (  # the image, the viewer, a place in the image or a number of things: no other thing
    "(?:(?:the|this|that|entire|whole|very|your|my|our|far|upper|lower|bottom|top|extreme) )*"
    "(?:pic|pics|picture|photo|image|img|screen|shot|frame|scene|page|view|us|me|you|u|we|camera|cam|viewer|left|right|"
    "lft|rt|top|bottom|front|back|middle|center|centre|corner|edge|sides?|far|end|row|outside|background|foreground|"
    "leftmost|rightmost|two|three|four|five|both|all|[0-9]+|group|bunch|pair|line)\\b"
)

_APOSTROPHES = re.compile("['\u2019.]")
_OTHERS = re.compile(r"[^a-z0-9]+")
_LOOKS = re.compile(  # clothes, parts of a body and poses, which say "top", "back", "left" and "with" too
    rf"\b(?:with|in|wearing|has|having)(?: (?!(?:{_PLACE})\b)\w+){{0,2}}? (?:{_WORN})\b"
    rf"|\b(?:{_COLOUR}|tank) top\b(?! (?:left|right|corner|row|of))"
    rf"|\b(?:facing|looking|turned|pointing|leaning)(?: (?:to|toward|towards|the|at))*"
    rf"(?: (?:{_PLACE}|up|down|forward|away|us|camera|you|sideways))+\b"
    r"|\b(?:with|his|her|their)(?: (?:his|her|their|the))? back\b|\bback (?:to|turned|facing)\b"
)
_RELATION = re.compile(
    r"\b(?:behind|beside|besides|alongside|between|among|beneath|underneath|below|above|under|atop|ontop|in ?front of|"
    r"in back of|on top of|across from|opposite|surrounded by|attached to|holding|carrying|riding|eating|drinking|"
    r"touching|pulling|pushing|hugging|feeding|petting|hitting)\b"
    r"|\b(?:(?:(?:just|directly|immediately|to|on|at|the) )*(?:left|right)(?: hand)?(?: side)? of|"
    r"(?:next|close|closer|closest|near|nearer|nearest|adjacent) to|"
    rf"near|next|nearest|by|on|at|over|inside|against|around|onto|with)\b(?= \w)(?! {_HERE})"
)


def kinds(text: str) -> list[str]:
    """The `KINDS` of words in an expression, in their order; none, one or several."""
    text = _OTHERS.sub(" ", _APOSTROPHES.sub("", text.lower()))
    text, looks = _LOOKS.subn(" ", text)
    text, relations = _RELATION.subn(" ", text)
    words = text.split()
    found = (looks or not ATTRIBUTES.isdisjoint(words), not POSITIONS.isdisjoint(words), relations)
    return [kind for kind, there in zip(KINDS, found, strict=True) if there]
