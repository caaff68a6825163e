/**
 * What the Inside view says: each panel's question, its sentence, where the paper tells of it, how
 * to read it; and the steps of the tour.
 *
 * @typedef {"born" | "refined" | "looked" | "silenced" | "saw"} PanelName
 *
 * @typedef {Object} PanelText
 * @property {string} title
 * @property {string} question
 * @property {string} sentence
 * @property {string} section  of the paper
 * @property {string} anchor  in the paper's HTML
 * @property {string} reading
 */

export const PAPER = "https://arxiv.org/html/2304.08069v3";

/** @type {Record<PanelName, PanelText>} */
export const PANELS = {
  born: {
    title: "Query selection",
    question: "Where did it come from?",
    sentence:
      "The encoder scores every cell of its feature maps. The best cells become the decoder's queries.",
    section: "4.3, query selection",
    anchor: "S4.SS3",
    reading:
      "The brighter a cell, the more confident the encoder is that it contains an object. White dots are the selected cells; the ring marks the one that became this detection. Coarse maps are for large objects.",
  },
  refined: {
    title: "Refinement",
    question: "How did its box change?",
    sentence:
      "Each decoder layer corrects the box and the class from the previous layer, so the decoder can stop after any of them.",
    section: "4.1, the model",
    anchor: "S4.SS1",
    reading:
      "Stage 0 is the encoder's proposal; stages 1 and up are the decoder layers. The thick box is the current stage, the dashed box the final one. IoU is the overlap with the final box: 1 is identical. The decoder layers slider moves this animation, too.",
  },
  looked: {
    title: "Attention",
    question: "What did it look at?",
    sentence:
      "In every layer, each attention head samples the feature maps at only a few points around the box.",
    section: "4.1, the model",
    anchor: "S4.SS1",
    reading:
      "Each dot is a sampling point: the brighter and larger, the higher its attention weight. The color of its ring shows the feature map. The dashed box is the layer's input box, and the cross is its center. Heads look for different things; switch between them.",
  },
  silenced: {
    title: "Duplicates",
    question: "Why is it detected only once?",
    sentence:
      "Queries attend to each other in every layer and learn not to repeat an object, so no non-maximum suppression (NMS) is needed.",
    section: "3.1, what NMS costs",
    anchor: "S3.SS1",
    reading:
      "Grey lines and boxes are competing queries: they predicted the same class in the same place at some stage. Attention is relative to an even split: 1× is what each query would get if all got the same. With few layers, duplicates may remain.",
  },
  saw: {
    title: "Feature maps",
    question: "What did the encoder see?",
    sentence: "AIFI applies self-attention to the coarsest map; CCFF then fuses the three scales.",
    section: "4.2, the hybrid encoder",
    anchor: "S4.SS2",
    reading:
      "Brightness shows how much a cell differs from its map's mean (root mean square over channels), scaled to each map's range. Compare patterns between maps, not brightness. The outline is this detection.",
  },
};

/**
 * @typedef {Object} TourStep
 * @property {string} on  the control that the step is about, in the page
 * @property {string} title
 * @property {string} words
 * @property {number} [depth]  of how many layers (from the end where negative) to show meanwhile
 */

/** @type {TourStep[]} */
export const TOUR = [
  {
    on: "rt-stage .frame",
    title: "One detection",
    words: "Everything below explains the box selected here. Click another box at any time.",
    depth: -1,
  },
  {
    on: "rt-inside .born .scales",
    title: "Query selection",
    words:
      "The encoder scored every cell of three feature maps. Switch between them: small objects light up in the fine map, large ones in the coarse map.",
  },
  {
    on: "rt-ladder .axis",
    title: "Refinement",
    words:
      "This handle sets how many decoder layers run. It also moves the animation below. It is now at layer 1, so you see the first correction.",
    depth: 1,
  },
  {
    on: "rt-inside .refined .time",
    title: "Play the animation",
    words: "Press ▶ to watch the box move from the proposal to the last layer.",
    depth: 1,
  },
  {
    on: "rt-inside .looked .heads",
    title: "Attention",
    words: "Each head samples only a few points. Choose a head to see where it looks.",
    depth: -1,
  },
  {
    on: "rt-inside .silenced .rivals",
    title: "No duplicates",
    words:
      "These queries competed for the same object. Watch their scores fall from stage to stage until one remains.",
    depth: -1,
  },
];
