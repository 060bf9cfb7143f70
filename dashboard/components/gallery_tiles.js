// The tiles of the gallery: a picture with its map, its object's outline and its caption, in groups.

const SVG = "http://www.w3.org/2000/svg";

class Tiles extends Keys {
  group(group, at) {
    const box = element("section", "group");
    const title = element("h4", "", group.title || "");
    title.hidden = !group.title;
    if (group.note) title.append(" ", element("span", "aside", group.note));
    if (group.more) {
      const more = element("button", "more", group.more);
      more.setAttribute("aria-label", `${group.more}: ${group.title}`);
      more.onclick = () => this.more(at);
      title.append(more);
    }
    const list = element("ul", `tiles ${this.data.layout}`);
    list.setAttribute("aria-label", group.title || "Samples");
    list.style.setProperty("--across", String(group.tiles.length));
    for (const tile of group.tiles) {
      const item = element("li");
      item.append(this.tile(tile));
      if (this.data.reviewing && tile.href) item.append(this.check(this.tiles.length - 1));
      if (this.data.similar && tile.href) item.append(this.like(tile));
      list.append(item);
    }
    box.append(title, list);
    return box;
  }

  // Beside the tile, which is a link: a button within one is none. From the keyboard it is "x".
  check(index) {
    const button = element("button", "check", "✓");
    button.title = "Select (x); with shift, all from the last one on";
    button.setAttribute("aria-label", `Select ${this.tiles[index].node.dataset.id}`);
    button.tabIndex = -1;
    button.onclick = (event) => this.toggle(index, event.shiftKey);
    return button;
  }

  // The same for "s".
  like(tile) {
    const button = element("button", "like", "≈");
    button.title = "Find similar images (s)";
    button.setAttribute("aria-label", `Find images similar to ${tile.id}`);
    button.tabIndex = -1;
    button.onclick = () => this.similar(tile.id);
    return button;
  }

  tile(tile) {
    const index = this.tiles.length;
    const node = element(tile.href ? "a" : "div", "tile");
    if (tile.href) {
      node.href = tile.href;
      node.target = "_self";
      node.onclick = (event) => {
        const apart = event.ctrlKey || event.metaKey || event.button !== 0;
        if (this.data.reviewing && !apart && (event.shiftKey || this.choosing.checked)) {
          event.preventDefault();
          this.toggle(index, event.shiftKey);
          return;
        }
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        this.open(tile.id);
      };
    }
    node.setAttribute("aria-label", tile.alt);
    node.title = tile.title || tile.id || "";
    node.dataset.id = tile.id || "";
    node.onfocus = () => { this.focus = index; this.rove(false); };
    const frame = element("div", "frame");
    const image = element("img");
    image.alt = tile.alt;
    image.decoding = "async";
    image.draggable = false;
    image.src = this.data.images[tile.image] || "";
    if (tile.ratio) frame.style.aspectRatio = image.style.aspectRatio = String(tile.ratio);
    frame.append(image);
    const place = tile.place || [0, 0, 1, 1];
    if (tile.outline) frame.append(this.placed(element("div", "crop"), place));
    const overlay = this.placed(element("img", "map"), place);
    overlay.alt = "";
    overlay.decoding = "sync"; // in the same frame as what it lies on
    overlay.draggable = false;
    overlay.setAttribute("aria-hidden", "true");
    const missing = element("div", "missing", "no positive attention");
    if (tile.maps) frame.append(overlay);
    if (tile.shape && this.data.shapes[tile.shape]) frame.append(this.shape(this.data.shapes[tile.shape], place));
    if (tile.maps) frame.append(missing);
    if (tile.badge) {
      const badge = element("span", "badge", tile.badge[0]);
      badge.title = tile.badge[1];
      frame.append(badge);
    }
    node.append(frame, this.caption(tile));
    this.tiles.push({ node, overlay, missing, maps: tile.maps || {}, fixed: tile.method });
    return node;
  }

  // A light line within a dark one shows on any picture.
  shape(path, place) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "shape");
    svg.setAttribute("viewBox", "0 0 1 1");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const kind of ["halo", "line"]) {
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("class", kind);
      line.setAttribute("d", path);
      svg.append(line);
    }
    return this.placed(svg, place);
  }

  placed(node, [x0, y0, x1, y1]) {
    Object.assign(node.style, { left: `${x0 * 100}%`, top: `${y0 * 100}%`, width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%` });
    return node;
  }

  caption(tile) {
    const caption = element("div", "caption");
    const names = element("div", "names");
    if (tile.mark) {
      const mark = element("span", "mark", tile.mark[0]);
      mark.style.setProperty("--mark", tile.mark[1]);
      mark.setAttribute("aria-hidden", "true");
      names.append(mark);
    }
    const text = element("span", tile.then ? "text halves" : "text", tile.then ? undefined : tile.text);
    if (tile.then) text.append(element("span", "", tile.text), " ", element("span", "", tile.then));
    names.append(text);
    caption.append(names);
    const last = this.data.layout === "sheet" ? element("div", "names") : names;
    if (tile.note) {
      const note = element("div", "note");
      // Names differ at their end: that is what stays where one is too long, and all that a sheet has room for.
      const named = tile.note === tile.id;
      note.classList.toggle("path", named);
      note.append(element("bdi", "", named && last !== names ? tile.note.split("/").pop() : tile.note));
      if (last !== names) last.append(note);
      caption.append(last === names ? note : last);
    }
    if (tile.value) last.append(element("span", "value", tile.value));
    return caption;
  }
}
