"""Attribution: which parts of an image a network's score rests on."""
