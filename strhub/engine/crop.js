() => {
  // Drag over the picture to crop it; a click takes the whole of it again. What is chosen goes to the hidden field
  // `crop` as four shares of the picture: left, top, right, bottom.
  const host = document.querySelector('#picture');
  const picture = () => host.querySelector('img');
  const clip = value => Math.min(1, Math.max(0, value));
  let start = null, box = null, shares = null;

  const field = () => document.querySelector('#crop textarea, #crop input');
  const say = value => {
    if (field().value === value) return;
    field().value = value;
    field().dispatchEvent(new Event('input', {bubbles: true}));
  };
  const drop = () => { box?.remove(); box = shares = null; };

  // Where the pixels are in the element, which may be larger than they.
  const inner = () => {
    const image = picture(), frame = image.getBoundingClientRect();
    let scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
    if (getComputedStyle(image).objectFit === 'scale-down') scale = Math.min(1, scale);
    const width = scale * image.naturalWidth, height = scale * image.naturalHeight;
    return {left: frame.left + (frame.width - width) / 2, top: frame.top + (frame.height - height) / 2, width, height};
  };
  const place = event => {
    const at = inner();
    return [clip((event.clientX - at.left) / at.width), clip((event.clientY - at.top) / at.height)];
  };
  const corners = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  const show = chosen => {
    const [left, top, right, bottom] = shares = chosen;
    if (!box) {
      box = document.createElement('div');
      box.className = 'crop-box';
      host.append(box);
    }
    const at = inner(), around = host.getBoundingClientRect();
    box.style.left = `${at.left - around.left - host.clientLeft + left * at.width}px`;
    box.style.top = `${at.top - around.top - host.clientTop + top * at.height}px`;
    box.style.width = `${(right - left) * at.width}px`;
    box.style.height = `${(bottom - top) * at.height}px`;
  };

  host.addEventListener('dragstart', event => event.preventDefault());
  host.addEventListener('load', drop, true);  // another picture
  new MutationObserver(() => picture() || drop()).observe(host, {childList: true, subtree: true});
  window.addEventListener('resize', () => { if (box) show(shares); });
  host.addEventListener('pointerdown', event => {
    if (event.button === 0 && event.target === picture()) start = place(event);
  });
  window.addEventListener('pointermove', event => { if (start) show(corners(start, place(event))); });
  window.addEventListener('pointercancel', () => { start = null; drop(); say(''); });
  window.addEventListener('pointerup', event => {
    if (!start) return;
    const [left, top, right, bottom] = corners(start, place(event));
    start = null;
    const at = inner();
    if ((right - left) * at.width > 8 && (bottom - top) * at.height > 8) {
      say([left, top, right, bottom].map(share => share.toFixed(4)).join(' '));
    } else {
      drop();
      say('');
    }
  });
}
