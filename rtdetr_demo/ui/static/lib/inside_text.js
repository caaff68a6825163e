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
    title: "Born",
    question: "Where did it come from?",
    sentence:
      "The encoder scores every cell of its maps, and the best cells become the decoder's queries.",
    section: "4.3, query selection",
    anchor: "S4.SS3",
    reading:
      "The brighter a cell, the more sure the encoder is that an object lies there. White dots are the cells that were chosen; the ring is the one that became this detection. Large cells see large things.",
  },
  refined: {
    title: "Refined",
    question: "How did its box get there?",
    sentence:
      "Each decoder layer corrects the box and the class of the layer before, so the decoder can be cut after any of them.",
    section: "4.1, the model",
    anchor: "S4.SS1",
    reading:
      "Stage 0 is the encoder's proposal, stages 1 and up the decoder layers. The thick box moves through them; the dashed one is where it ends. IoU says how much of the last box each stage has already: 1 is all of it. The handle of the decoder depth moves this film, too.",
  },
  looked: {
    title: "Looked",
    question: "What did it look at?",
    sentence:
      "In every layer each head reads the maps at a few places only, which it chooses around its box.",
    section: "4.1, the model",
    anchor: "S4.SS1",
    reading:
      "Each dot is a place that was read: the brighter and larger, the more it counted. Its ring tells the map. The cross is the middle of the box that the layer began with, which is drawn dashed. Heads look for different things; switch between them.",
  },
  silenced: {
    title: "Silenced",
    question: "Why is it found once?",
    sentence:
      "Queries see each other in every layer and learn to give way, so no non-maximum suppression is needed.",
    section: "3.1, what NMS costs",
    anchor: "S3.SS1",
    reading:
      "Grey lines and boxes are rivals: queries that claimed the same class in the same place at some stage. Attention is counted in even shares: 1× is what a query would get if all got the same. With few layers rivals may still stand beside the winner; that is what a cut costs.",
  },
  saw: {
    title: "Saw",
    question: "What did the encoder make of the picture?",
    sentence:
      "AIFI lets the coarsest map look at all of itself, and CCFF then mixes the three scales.",
    section: "4.2, the hybrid encoder",
    anchor: "S4.SS2",
    reading:
      "Brightness is how far a cell stands out from the rest of its map (root mean square over channels of its difference to the map's mean), from the least to the most within each map. Compare maps by their shape, not by their brightness. The outline is this detection.",
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
    words: "Everything below is about the box that is chosen here. Click another one at any time.",
    depth: -1,
  },
  {
    on: "rt-inside .born .scales",
    title: "It is born",
    words:
      "The encoder scored every cell of three maps. Switch between the scales: small things light up in the fine map, large ones in the coarse one.",
  },
  {
    on: "rt-ladder .axis",
    title: "It is refined",
    words:
      "This handle cuts the decoder. It also moves the film below: here it rests after the first layer, so you see how far the first guess got.",
    depth: 1,
  },
  {
    on: "rt-inside .refined .time",
    title: "Play it",
    words: "Press play to watch the box move from the proposal to the last layer.",
    depth: 1,
  },
  {
    on: "rt-inside .looked .heads",
    title: "It looks",
    words: "Each head reads a few places only. Choose one head to see what it looks for.",
    depth: -1,
  },
  {
    on: "rt-inside .silenced .rivals",
    title: "It is alone",
    words:
      "These queries wanted the same object. See how their scores fall from stage to stage, while one remains.",
    depth: -1,
  },
];
