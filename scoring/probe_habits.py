"""What requests of people look like, for the probe generator `quiver-probes-v2`: openings, examples, round numbers.

Part of the sealed generator: any change of an entry or of their order is a new generator id. The openings carry rough
counts of how often real requests begin so (counted in the tuning half of the corpus of `benchmarks/probe_stealth.py`);
the examples were written for this project and only set the tone of what the model writes after them.
"""

Weighted = tuple[tuple[int, str], ...]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _weighted(text: str) -> Weighted:
    rows = [line.split(": ", 1) for line in _lines(text)]
    return tuple((int(weight), entry.strip()) for weight, entries in rows for entry in entries.split(" | "))


# The empty opening: the model begins by itself.
PROSE_OPENINGS: Weighted = (
    (480, ""),
    *_weighted(
        """
    60: Write a
    55: write a
    35: I want you to | Can you | what is
    30: What is the | What are the | What is | how to | Explain
    25: What
    20: I want to | what is the | what are the | Write me a | can you | I am | How to | Create a
    15: Do you know | I have a | How do I | You are a | do you know | create a | explain | The | what
    10: Can you write a | Write a story about | Please write a | What are some | how do i | Give me a | write me a
    10: How can I | Explain the | I'm | Write | In | write
    9: Can you give me | What is a | how can i | You are | I have | Tell me | Write an | In the | in | please
    8: Got any creative ideas | can you help me | I need to | give me a | Tell me about | how can I | Give me
    8: Let's | Please | list
    7: I need your help | how do you | Can you list | Act as a | can i | could you | give me | Why is | Create an
    7: write an | Why | If | generate | My
    6: can you give me | how do I | write an essay | Write a short | what is a | is there a | can you explain
    6: make a | What does | tell me | Help me | Describe the | For the | Is | Hi | hey | When
    5: You are an expert | How do I create | I would like you | Can you write me | Can you tell me | how to build
    5: Are you familiar | Write a song | Write a poem | I'm going to | Can I use | Can you give | can you write
    5: how to get | how to make | what are some | tell me a | list the | explain the | how can | I will | How do
    5: Could you | Generate a | you are | What's the | Write the | who is | Hey | how | give | Can | I'll | Now
    5: How | Define | if | Generate
    4: what do you | How to get | Can you suggest | Can you explain | I need a | I would like | Write a story
    4: Write an seo | How would you | I am going | Give me some | can you create | What are 10 | you are a
    4: Give me 10 | I am a | tell me about | I will give | is it possible | what are | Can I | Please create
    4: Is there | write me | In a | Act as | Hi, I | make me | show me | generate a | What are | Write me | Hi,
    4: Which | provide | Summarize | List | make | For | create | Use | whats | imagine | hi | Make | Are | Provide
    4: Suggest | i'm
    3: can you design | act as a | Who is the | give me an | What do you | how can you | Give me 5 | What was the
    3: Let's play a | What kind of | can you please | I'm interested in | can you make | give me some | Can you help
    3: I will provide | Can you tell | I'd like you | Give me an | How can i | I will tell | Explain in detail
    3: Can you summarize | How is the | Tell me a | i want to | I have some | Can you recommend | i need to
    3: Summarize the | What could | who are | Let's play | are you | How are | How is | Are there | Who is
    3: How about | i am | Make a | what's the | create an | How does | Why do | what does | act as | how does
    3: Who are | I need | According to | Is it | Do you | This is | help me | You're a | how many | Have you
    3: Please write | Give a | let's play | Plan a | how are | the | Imagine | are | as | Where | Answer | is | hi,
    3: where | describe | Describe | continue | so | Does | best | summarize
    2: i need | I'd like | how could | What if | explain what | Given a | list all | according to | If I | Hi I
    2: Please compose | Show me | outline a | I'm a | I want | Thank you | Let's start | I'm building | how would
    2: please create | suggest some | Act like | plan a | how much | Explain me | For a | Continue writing
    2: I'm trying | What do | Please list | How can | in a | Why can't | Explain in | My friend | My goal | If a
    2: Can we | why does | Pretend you | how should | Please make | rewrite this | What were | Are you | I work
    2: Tell the | What types | Imagine you | In my | How much | can I | Provide a | Please answer | Explain like
    2: provide a | How did | How would | What would | suppose you | Please give | Generate 10 | How many
    2: Rewrite the | List the | Explain how | There are | show a | Consider a | how do | How will | find the
    2: Give an | You need | If you | draft a | explain how | Can a | explain to | What should | Please describe
    2: Let's talk | Write story | I'm making | Let's give | When using | Explain to | any | for | Hello! | send
    2: using | build | Hello | Give | do | rewrite | Lets | my | So | more | Who | im | define | Recommend | when
    2: Hey, | recommend | you | Rewrite | hello, | Hi! | pretend | Just | does | lets | Assume | Did | this
    2: Brainstorm | Should | Pretend | let's | suggest | from | This | short | What's | Create | top | business
    2: Your | Add | which | Consider
    """
    ),
)
CODE_OPENINGS: Weighted = (
    (130, ""),
    *_weighted(
        """
    30: Write a
    20: write a
    15: I want to | how to | Can you | How to | can you
    10: Create a | In
    9: How do I | write me a | Can you write | I have a | I am | in
    8: write a python | write | Explain
    7: How do I make | what is | What is | What | Please
    6: Write me a | Make a | What are | How | create | Write | explain
    5: Write a program to | Write a python | do you know | write python code | how can I | How can I | create a
    5: tell me | You are | Do you | python code | using | I'm
    4: Write a Python | i have a | can you write | I want you | how do i | i want to | how to use | write an
    4: Write an | how do | I need | show me | Give me | Generate a | Implement | please | Create | Using
    3: Hi, can you | What are the | How do you | What does this | How to use | give me a | You are a | I am writing
    3: write a powershell | Give me a | what are the | write code for | I would like | Give me the | can you give
    3: Write a code | I want | write me | How do | Is there | Write me | Build a | create an | Please write | Python
    3: how | provide | use
    2: How would | in the | I get | The code | Rewrite this | How I | This is | Could you | Is it | you are
    2: Please help | please create | how can | Show me | Make me | We have | You will | generate a | if i
    2: what does | Given an | Please tell | Code a | I'm using | I have | check this | make a | Give a
    2: im developing | please write | for | Use | What's | so | Program | Why | Give | make | The | Example | code
    2: Make | can | what | Hi. | give
    """
    ),
)
SYSTEM_OPENINGS = _weighted(
    """
    60: You are a
    20: You are an
    15: You are
    8: You help
    6: Answer
    6: Always
    5: As a
    4: Act as a
    3: Be
    """
)
FOLLOW_UP_OPENINGS = _weighted(
    """
    12: Can you
    10: can you
    8: Write
    6: what about | What about
    5: make it | How | how | What is | what | Give me | now
    4: Why | why | and | ok | Thanks | continue | Please | Now write | Is | I
    3: What if | how do I | explain | rewrite | more | So | Ok, | Can you give me | is there | which | are you | but
    """
)
PROSE_EXAMPLES = _lines(
    """
    what is the difference between a roth ira and a traditional one
    Write a cover letter for a junior accountant position at a hospital
    can you help me plan a 3 day trip to Porto with two small kids?
    how do i get red wine out of a wool carpet
    Give me 10 name ideas for a mobile dog grooming business
    Explain the causes of the 1973 oil crisis
    I want you to act as a nutritionist. I am 34, vegetarian, and I want to gain muscle. Make me a weekly meal plan.
    who won the world cup in 1998
    Rewrite this to sound more professional: sorry for the late reply, i was on holiday and did not see your mail
    tell me a joke about plumbers
    Please write a 500 word essay about the role of women in the Spanish civil war
    how long does it take to learn to drive
    What would happen to the tides if the moon disappeared?
    I have a meeting with an investor tomorrow. What questions should I expect?
    summarize the book "Thinking, Fast and Slow" in 5 bullet points
    hi
    Can you proofread my text?
    My landlord refuses to give back my deposit because of scratches on the floor. What can I do? I live in Ohio.
    write a poem about my cat Biscuit who hates mondays
    list the countries with the highest number of nurses per capita
    Act as a senior marketing consultant and create a content calendar for a small coffee roaster
    Let's play a game. You are the dungeon master and I am a thief who just arrived in the city
    What are the side effects of ibuprofen
    Create a table comparing 4 project management methods
    is it safe to eat eggs after the date on the box
    Suggest a title for a blog post on remote onboarding
    do you know the company Siemens Healthineers?
    Give an example of a SMART goal for a nurse manager
    I'm writing a novel in which a retired judge is blackmailed by her own son. Suggest three possible endings.
    what does "carry the day" mean
    Translate to Spanish: we will be closed on Monday due to the holiday
    You are an experienced recruiter. Ask me interview questions one at a time for a product manager role.
    Can you explain the concept of opportunity cost to a 12 year old
    How would you describe the leadership style of Angela Merkel?
    make a short instagram caption for a picture of my new bike
    How many calories are in a bowl of oatmeal with banana
    Write 5 multiple choice questions about photosynthesis for grade 7 with answers
    Why did the Ottoman Empire enter World War I?
    i need a birthday message for my boss, funny but not too much
    please provide a SWOT analysis of Lufthansa
    Are you able to read pdf files?
    What's the best way to store fresh basil?
    Imagine a world where nobody needs to sleep. Describe an ordinary Tuesday.
    In economics, what is meant by moral hazard? Give two examples from insurance.
    Help me write a complaint to my internet provider
    A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive?
    Write me a short story in the style of Roald Dahl about a dentist
    which vitamins should not be taken together
    I would like to know more about the tax rules for freelancers in Germany
    Hello, can you speak Portuguese?
    generate a tagline for an app that reminds people to drink water
    compare Kant and Hume on causality
    If I invest 200 a month at 5% for 20 years how much will I have
    Describe the steps of a literature review
    What is a good substitute for buttermilk in pancakes?
    I am a teacher and I want to design a lesson on fractions. Can you give me an outline with timings?
    could you write an email to our supplier asking why the shipment is two weeks late
    pros and cons of living in Singapore
    Continue the story: The door had been locked for eleven years when I finally found the key.
    Provide a list of 20 keywords for a shop that sells handmade candles
    explain like im five how vaccines work
    Do you think free will exists?
    best exercises for lower back pain
    Hey, I need some help with my dissertation topic. It is about gentrification in Lisbon.
    how is steel made
    Write a product description for a bamboo toothbrush. Tone: playful. Max 60 words.
    What is the plot of Macbeth
    can dogs eat mango
    Draft a LinkedIn post announcing that I have started a new job as a data analyst
    thesis statement about social media and loneliness
    Tell me about the history of Zanzibar
    Based on the following notes, write minutes of the meeting: budget approved, Tom hires 2 people, next call on May 3
    I feel stuck in my career, any advice?
    What are three arguments against a universal basic income?
    do you know about the TCP BBR algorithm
    Write an seo friendly description for a hotel in Goa, 150 words
    what are the main competitors of Shopify
    I have an interview at Deloitte for a risk advisory role. How should I introduce myself?
    who was the general that lost at Cannae
    Create a persona for a 45 year old man who buys power tools online
    explain the difference between IFRS and GAAP
    What is the meaning of the lyrics of Hotel California?
    make a list of 15 youtube video ideas about retro gaming consoles
    how to evaluate a series A startup
    Can you act as my English teacher and correct my mistakes?
    Write a scene between Batman and Sherlock Holmes in a pub
    what is a chi square test and when do i use it
    Give me a short summary of the Treaty of Versailles
    I want to open a bubble tea shop in Manila. What permits do I need?
    Which is better for a beginner, Lightroom or Capture One?
    Tell me how a heat pump works in winter
    write a rap battle between a toaster and a microwave
    Is it legal to record a phone call in Texas
    What's the difference between machine learning and deep learning?
    Compose an email to HR about an error on my payslip
    how many players are on a lacrosse team
    Please act as an interviewer for a data engineer position at a bank
    What are OKRs? Give an example for a sales team
    Can I deduct home office costs if I am an employee
    My daughter is 4 and afraid of the dark, what can I do
    In the book of Job, who are the three friends
    let's brainstorm names for a fantasy kingdom in the desert
    Write a press release about the launch of an electric cargo bike by a company called Velora
    does magnesium help with sleep
    How would Aristotle criticize utilitarianism?
    Can you make a workout plan, 3 days, only dumbbells
    what is the average salary of a radiographer in the UK
    You are a lawyer. Explain what an indemnity clause is in plain English.
    Please paraphrase: The results were inconclusive because of the small sample size.
    I'd like to learn about options trading. Start with the basics
    why is my sourdough so dense
    Give me 5 subject lines for a cold email to restaurant owners
    what year did Nigeria become independent and who was the first president
    Write a one paragraph bio for a wedding photographer based in Tulum
    What are the most common objections when selling life insurance
    How do you calculate the net present value of a project?
    design a loyalty program for a car wash
    I will give you the first lines of a song and you finish it, ok?
    what is the tallest building in south america
    help me come up with a research question about microplastics in rivers
    Explain the offside rule
    can you give me a recipe with chickpeas and spinach that takes less than 20 minutes
    Write about the importance of honesty in 200 words
    What do I need to consider when hiring in Poland as a US company?
    list all the moons of Saturn larger than 200 km
    Is there a way to recover a deleted WhatsApp chat on iPhone?
    Act like a hostage negotiator and talk me out of eating the last donut
    What is the difference between a mortgage broker and a loan officer?
    how to tell if a diamond is real
    Generate 3 haikus about trains
    who founded Patagonia and what was his philosophy
    I need a project charter for moving our CRM from Zoho to HubSpot
    Are there any good alternatives to Trello for a team of five?
    Can you explain the ending of Inception
    what happened on 9 november 1989
    create 4 quiz questions about the human heart, with the answers at the end
    Why do cats knead?
    Write a business plan outline for a mobile bike repair service in Utrecht
    What would a debate between Marx and Hayek look like
    give feedback on this sentence: We strive to delight customers with quality solutions
    how can a small museum attract more teenagers
    Tell me the story of Orpheus and Eurydice in a few lines
    Do you remember what I asked you yesterday?
    Convert 5 feet 7 to cm
    I'm building a landing page for an accounting tool. Write a headline and three benefits
    What is blockchain used for besides cryptocurrency?
    how does a carburetor work
    Pretend to be a medieval king and answer my questions
    Make this text shorter and more friendly: Please be advised that your parcel could not be delivered today.
    what's a good gift for a 70 year old who has everything
    Describe the water cycle for a second grade class
    Hi, I am preparing for the PMP exam. Can you ask me practice questions?
    how do tariffs affect consumers
    Rank the Star Wars movies by box office
    Explain game theory using an example from football
    Write a Twitter thread about why most habits fail
    what is normal blood pressure for a 60 year old woman
    I want to name my daughter something Irish but easy to spell
    Can you summarize the plot of One Hundred Years of Solitude
    Suggest a 5 day itinerary for Iceland in October
    difference between affect and effect
    Give three examples of irony in Romeo and Juliet
    how to politely decline a job offer
    What is the GDP of Vietnam compared to Thailand?
    As a UX designer, how do I run a card sorting session?
    I feel tired all the time, what vitamins could I be missing?
    Write an apology from an airline for lost luggage
    what are some hobbies for introverts
    Who is the CEO of Nestle
    How should I structure a 10 minute talk about soil erosion
    ok so i have 40 employees and need a policy for remote work, where do i start
    Please list the pros and cons of nuclear power
    What is the best time of the year to plant garlic in zone 6?
    Can you write a Dungeons and Dragons backstory for a halfling bard
    explain why the sky looks red at sunset
    Tell me something interesting about octopuses
    """
)
CODE_EXAMPLES = _lines(
    """
    how do i center a div vertically in css
    Write a python script that renames all jpg files in a folder by date taken
    What does this error mean: TypeError: 'NoneType' object is not subscriptable
    in react, how can I pass a value from a child component to its parent?
    create a sql query that returns the second highest salary per department
    Explain what a closure is in JavaScript with an example
    write a function in C that reverses a linked list
    How can I run a docker container in the background and see its logs
    regex to match dates like 2021-03-04
    I have a pandas dataframe with a column of strings such as "12 kg". How do I convert it to numbers?
    can you write a bash script to back up a mysql database every night
    fix this code: for i in range(10) print(i)
    Make a simple snake game in html and javascript
    what is the difference between git merge and git rebase
    write unit tests for a function that validates IBAN numbers, using pytest
    Excel formula to count cells that contain a word
    convert this to typescript: function add(a, b) { return a + b }
    How to deploy a Django app on AWS?
    i am getting "permission denied (publickey)" when i push to github, how to solve it
    Act as a Linux terminal. I will type commands and you reply with what the terminal should show.
    design a database schema for a library
    In Unity, how do I make the camera follow the player smoothly?
    write a google apps script that sends an email when a cell changes
    difference between a process and a thread
    Build a REST API in Node with express and mongodb that has users and posts
    what's the time complexity of heap sort
    Show me how to use async/await in C#
    kubernetes pod keeps restarting with CrashLoopBackOff, what should I check?
    give me a vba macro that copies all rows where column C is "open" to another sheet
    How do I read a large CSV file in R without running out of memory?
    Write a python function to check if a string is a palindrome
    how to add a column to an existing table in postgres
    explain the difference between let, var and const
    Create a react component for a login form with validation
    I want to scrape product prices from a website using python, how do I start
    How do I loop through a dictionary in Swift?
    write a sql query to find duplicate emails
    What is dependency injection in Spring Boot
    my flask app returns 500 when I upload a file, any idea why?
    Give me an example of a github actions workflow that runs pytest
    can you optimize this query: select * from orders where year(created_at) = 2022
    Write a powershell script that lists all users in an AD group
    how to merge two dataframes on two columns
    What is the difference between REST and GraphQL?
    In Laravel, how can I validate an array of emails
    make a discord bot in python that greets new members
    Explain this regex: ^[a-z0-9_-]{3,16}$
    I'm using Next.js and want to protect a page so that only logged in users can see it
    how do i undo the last commit without losing changes
    Implement a LRU cache in Java
    write code for an arduino that blinks an led when a button is pressed
    What are the advantages of microservices over a monolith
    Can you convert this curl command to python requests
    terraform code to create an s3 bucket with versioning
    How to sort a list of objects by date in kotlin
    I have an array of objects in javascript, how do I group them by category?
    Write a C++ class for a bank account with deposit and withdraw
    how can I make my html table scroll horizontally on mobile
    What does the yield keyword do in python?
    Please write a google sheets formula that sums column B if column A is this month
    Create a simple todo app with vue 3
    how to connect to a mongodb database from golang
    unity c# script for double jump
    Can you explain the difference between supervised and unsupervised learning with code
    matplotlib: how do I put two plots side by side
    Write a program in C to find the largest of three numbers
    nginx config to redirect http to https
    Why is my useEffect running twice
    use python and openpyxl to color the cells that are above average
    What is a good folder structure for a FastAPI project?
    """
)
SYSTEM_EXAMPLES = _lines(
    """
    You are a helpful assistant.
    You are a helpful assistant. Answer in at most three sentences.
    You are the support agent of a hotel in Vienna. Be polite, and never promise refunds.
    You are an expert Python developer. Reply with code only.
    You are Nora, a friendly tutor for high school maths. Do not give away the answer at once.
    Answer as briefly as possible.
    You are a travel planner. Today is Friday. The user is based in Canada.
    You help employees of a logistics company with questions about the handbook.
    Always answer in plain text, without markdown.
    You are a writing assistant. Keep the meaning, fix the grammar, and do not add anything.
    You are a cooking assistant in a mobile app. Use metric units. Keep it short.
    As a career coach, give practical and honest advice.
    You are a senior SQL consultant. Explain your reasoning step by step.
    You are a shop assistant for outdoor clothing. Suggest products and ask about size.
    You are an AI assistant that answers questions about gardening. If you do not know, say so.
    You are a chatbot on the website of a dental clinic. Do not give medical advice.
    """
)
OTHER_EXAMPLES = tuple(
    (line[:2], line[4:])
    for line in _lines(
        """
    es: como puedo bajar la fiebre de un niño de 3 años
    es: Escribe un correo a mi profesor para pedirle una prórroga de la tarea
    es: dame 5 ideas de regalo para mi mamá, le gusta la jardinería
    es: ¿Cuál es la diferencia entre inflación y deflación?
    es: hazme un resumen de la revolución mexicana
    es: Quiero aprender a tocar la guitarra, ¿por dónde empiezo?
    fr: comment enlever une tache de café sur un canapé
    fr: Rédige une lettre de motivation pour un poste de vendeuse en boulangerie
    fr: Peux-tu m'expliquer la photosynthèse simplement ?
    fr: donne moi une recette facile avec des courgettes
    fr: Quels sont les avantages et les inconvénients du télétravail ?
    fr: Corrige les fautes : je suis aller au marché hier et j'ai acheter des pomme
    de: Schreib mir eine kurze Entschuldigung für den Sportunterricht
    de: was ist der unterschied zwischen brutto und netto
    de: Wie lange muss man Kartoffeln kochen?
    de: Gib mir 10 Ideen für einen Kindergeburtstag im Winter
    de: Kannst du mir die Relativitätstheorie einfach erklären?
    de: ich brauche einen namen für mein neues café
    pt: Escreva uma mensagem de aniversário para minha avó
    pt: como fazer pão de queijo sem forno
    pt: Quais são os sintomas da dengue?
    pt: me explica o que é juros compostos
    it: Scrivi una breve recensione di un ristorante di pesce
    it: come si coniuga il verbo andare al congiuntivo
    it: Qual è la differenza tra un avvocato e un notaio?
    it: consigliami tre libri gialli ambientati in Sicilia
    """
    )
)
"""Requests that are not in English: the language's ISO 639-1 code, the text."""

BARE_MESSAGES = _weighted(
    """
    8: hi
    6: hello | Hello | continue
    5: Hi
    3: hey | test | Hi there | who are you? | Continue
    2: what can you do? | Are you there? | Who are you? | Hello! | Hi! | Test | go on | How are you? | help
    1: hello, how are you | can you help me? | yes | ok | what's your name | Do you speak French? | good morning | ...
    """
)
"""Whole messages that many people send."""

TEMPERATURES_PPM = (
    (45, 1_000_000),
    (22, 700_000),
    (12, 800_000),
    (8, 900_000),
    (6, 500_000),
    (4, 600_000),
    (2, 300_000),
    (2, 1_100_000),
    (2, 1_200_000),
)
"""Round values that people set, with rough weights; those outside a plan's envelope are not drawn."""
TOP_PS_PPM = ((65, 1_000_000), (18, 950_000), (14, 900_000), (3, 800_000))
