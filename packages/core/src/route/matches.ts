export class Matches {}
